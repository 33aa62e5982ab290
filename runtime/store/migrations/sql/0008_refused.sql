-- Those whose credential is refused are few, and are looked for every ten seconds: not among all.

CREATE INDEX subscriptions_refused ON subscriptions (user_id) WHERE refused_at IS NOT NULL;
