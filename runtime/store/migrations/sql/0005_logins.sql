-- Each replica says how it got into the database, so that a login that was replaced is closed when nobody uses it any more,
-- and which versions of this schema it can work with.

ALTER TABLE instances
    ADD COLUMN login         text,                  -- the role that it logs in as
    ADD COLUMN knows_schema  integer,               -- the newest version that it knows
    ADD COLUMN needs_schema  integer;               -- the oldest version that it can work with
