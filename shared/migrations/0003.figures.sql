-- Figures that outlive the rows that they are made from. Only added to: the version before works with it.
-- depends: 0002.operators

-- What happened and is not added up yet. Inserted with what it tells of, so that both are there or neither is, and
-- nobody waits for a sum that somebody else changes. `le` is the bucket of Prometheus' histograms: the least bound
-- that is not below the value (negative, since width_bucket has its bounds the other way round).
CREATE TABLE observations (
    name     text NOT NULL,
    provider text NOT NULL DEFAULT '',
    label    text NOT NULL DEFAULT '',
    value    double precision NOT NULL,
    le       double precision NOT NULL GENERATED ALWAYS AS (
        ('{Infinity,3600,1800,600,300,120,60,30,15,10,5,2,1,0.5,0.1}'::double precision[])[1 + width_bucket(-value,
            '{-3600,-1800,-600,-300,-120,-60,-30,-15,-10,-5,-2,-1,-0.5,-0.1}'::double precision[])]
    ) STORED
);

-- What was added up; it only grows.
CREATE TABLE figures (
    name     text NOT NULL,
    provider text NOT NULL,
    label    text NOT NULL,
    le       double precision NOT NULL,
    count    bigint NOT NULL,
    sum      double precision NOT NULL,
    PRIMARY KEY (name, provider, label, le)
);

CREATE FUNCTION seconds_between(since timestamptz, till timestamptz) RETURNS double precision LANGUAGE sql STABLE
    RETURN GREATEST(extract(epoch FROM till - since), 0);

-- The history tells all that is to be known, whoever writes it.
CREATE FUNCTION history_observed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    job record;
    failure jsonb := NEW.detail -> 'error';
BEGIN
    SELECT provider, run_after, finished_at INTO job FROM jobs WHERE id = NEW.job_id;
    IF NEW.event = 'totp_issued' THEN
        INSERT INTO observations (name, provider, value)
        VALUES ('totp_wait_seconds', job.provider, (NEW.detail ->> 'waited_seconds')::double precision);
    ELSIF NEW.event = 'reported' THEN
        INSERT INTO observations (name, provider, value)
        VALUES ('report_lag_seconds', job.provider, seconds_between(job.finished_at, NEW.at));
    ELSIF NEW.from_state <> 'pending' THEN
        INSERT INTO observations (name, provider, label, value)
        SELECT 'job_phase_seconds', job.provider, NEW.from_state, seconds_between(at, NEW.at) FROM history
        WHERE job_id = NEW.job_id AND id < NEW.id AND to_state = NEW.from_state AND from_state <> to_state
        ORDER BY id DESC LIMIT 1;
    ELSIF NEW.to_state = 'provisioning' THEN
        INSERT INTO observations (name, provider, value)
        VALUES ('job_wait_seconds', job.provider, seconds_between(job.run_after, NEW.at));
    END IF;
    IF NEW.from_state <> NEW.to_state AND NEW.to_state IN ('completed', 'failed', 'cancelled') THEN
        INSERT INTO observations (name, provider, label, value)
        VALUES ('jobs_finished', job.provider, concat_ws('_', NEW.to_state, failure ->> 'kind'), 1);
    END IF;
    IF NEW.from_state <> NEW.to_state AND failure IS NOT NULL THEN
        INSERT INTO observations (name, provider, label, value)
        VALUES ('attempts_failed', job.provider,
            -- Workers choose their codes freely, and a label must not have any number of values.
            CASE WHEN NEW.detail ->> 'by' = 'worker' THEN 'reported' ELSE failure ->> 'code' END, 1);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER history_observed AFTER INSERT ON history FOR EACH ROW
    WHEN (NEW.from_state <> NEW.to_state OR NEW.event IN ('totp_issued', 'reported'))
    EXECUTE FUNCTION history_observed();

CREATE FUNCTION browsers_observed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO observations (name, label, value)
    VALUES ('browser_start_seconds', CASE WHEN NEW.job_id IS NULL THEN 'warm' ELSE 'own' END,
        seconds_between(NEW.created_at, NEW.ready_at));
    RETURN NULL;
END
$$;
CREATE TRIGGER browsers_observed AFTER UPDATE OF ready_at ON browsers FOR EACH ROW
    WHEN (OLD.ready_at IS NULL AND NEW.ready_at IS NOT NULL) EXECUTE FUNCTION browsers_observed();

-- Counts jobs without reading them.
CREATE INDEX jobs_kept ON jobs (provider, state);
