-- Each replica says how its push providers fare, for the operator: runtime/push/standing. No credential, token or content.

ALTER TABLE instances
    ADD COLUMN push_providers jsonb NOT NULL DEFAULT '[]';
