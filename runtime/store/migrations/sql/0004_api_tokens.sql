-- While an API token and the one before it are both valid, it is known who still has to change.

ALTER TABLE devices
    ADD COLUMN api_token text;                      -- the id of the API token of the device's last call while there were two
