-- A mail stands in the journal under a short hash of its item id, which Exchange makes some 150 characters long: it is written
-- to the log and to the index with each mail. The id itself stays only as long as the mail is owed. An older replica that takes
-- such a row up cannot fetch the mail and leaves it to a newer one.

ALTER TABLE pending ADD COLUMN item_id text;  -- the EWS item id of a mail that is owed, null if item is the id itself

-- Who has told a user's devices finds out whether another replica has done so since it looked them up.
ALTER TABLE user_state ADD COLUMN revision integer NOT NULL DEFAULT 0;  -- rises with each record of what was told
