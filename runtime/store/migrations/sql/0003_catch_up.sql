-- What came while there was no subscription is looked up when there is one again. (The journal has a fourth kind: look up
-- what came since; its item says since when.)

ALTER TABLE user_state
    ADD COLUMN newest_mail  timestamptz,            -- when the newest mail arrived that was seen, by Exchange's clock
    ADD COLUMN newest_items bigint[];               -- hashes of the mails that arrived in that second and were seen
