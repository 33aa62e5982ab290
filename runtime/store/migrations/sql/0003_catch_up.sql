-- What came while there was no subscription is looked up when there is one again. (The journal has a fourth kind: look up
-- what came since; its item is that time.)

ALTER TABLE user_state
    ADD COLUMN newest_mail timestamptz;             -- when the newest mail arrived that was told, by Exchange's clock
