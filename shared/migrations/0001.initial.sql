-- Jobs and everything that hangs on them. The table keeps the invariants; the code only asks.
-- depends:

CREATE TABLE jobs (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    external_job_id  text CONSTRAINT jobs_external_job_id_length CHECK (length(external_job_id) BETWEEN 1 AND 200),
    retry_of         bigint REFERENCES jobs ON DELETE SET NULL,
    content_digest   bytea NOT NULL,
    provider         text NOT NULL,
    action           text NOT NULL,
    parameters       jsonb NOT NULL CONSTRAINT jobs_parameters_object CHECK (jsonb_typeof(parameters) = 'object'),
    priority         smallint NOT NULL CONSTRAINT jobs_priority_range CHECK (priority BETWEEN 0 AND 10),
    max_retries      smallint NOT NULL CONSTRAINT jobs_max_retries_range CHECK (max_retries BETWEEN 0 AND 20),
    run_after        timestamptz NOT NULL DEFAULT now(),
    deadline         timestamptz,
    traceparent      text NOT NULL,
    created_by       text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),

    state            text NOT NULL DEFAULT 'pending',
    attempt          integer NOT NULL DEFAULT 1,
    account          text,
    worker           text,
    claimed_at       timestamptz,
    lease_expires_at timestamptz,
    result           jsonb,
    error            jsonb,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    finished_at      timestamptz,

    reported_at      timestamptz,
    report_attempts  integer NOT NULL DEFAULT 0,
    report_due       timestamptz,
    report_error     text,

    CONSTRAINT jobs_state_known CHECK (
        state IN ('pending', 'provisioning', 'dispatching', 'running', 'completed', 'failed', 'cancelled')
    ),
    CONSTRAINT jobs_attempt_range CHECK (attempt BETWEEN 1 AND max_retries + 1),
    CONSTRAINT jobs_live_has_lease CHECK (
        (state IN ('provisioning', 'dispatching', 'running')) = (lease_expires_at IS NOT NULL AND claimed_at IS NOT NULL)
    ),
    CONSTRAINT jobs_running_has_worker CHECK (state <> 'running' OR worker IS NOT NULL),
    CONSTRAINT jobs_terminal_has_end CHECK (
        (state IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)
    ),
    CONSTRAINT jobs_failed_has_error CHECK (state <> 'failed' OR error IS NOT NULL),
    CONSTRAINT jobs_reported_is_terminal CHECK (reported_at IS NULL OR finished_at IS NOT NULL)
);

-- A submission repeated under the same external id is the same job; an operator's retry is a new one.
CREATE UNIQUE INDEX jobs_external_job_id_once ON jobs (external_job_id) WHERE retry_of IS NULL;
CREATE INDEX jobs_by_external_job_id ON jobs (external_job_id);
CREATE UNIQUE INDEX jobs_retried_once ON jobs (retry_of);
CREATE INDEX jobs_claimable ON jobs (provider, priority DESC, id) WHERE state = 'pending';
CREATE INDEX jobs_live ON jobs (provider, account) WHERE state IN ('provisioning', 'dispatching', 'running');
CREATE INDEX jobs_leases ON jobs (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
CREATE INDEX jobs_deadlines ON jobs (deadline) WHERE deadline IS NOT NULL AND finished_at IS NULL;
CREATE INDEX jobs_unreported ON jobs (report_due) WHERE finished_at IS NOT NULL AND reported_at IS NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_by_state ON jobs (state, id DESC);
CREATE INDEX jobs_by_provider ON jobs (provider, id DESC);

-- The state machine, kept where no code can go round it.
CREATE FUNCTION jobs_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.finished_at IS NOT NULL
       AND (NEW.state, NEW.attempt, NEW.result, NEW.error, NEW.finished_at)
           IS DISTINCT FROM (OLD.state, OLD.attempt, OLD.result, OLD.error, OLD.finished_at) THEN
        RAISE EXCEPTION 'job % is %, which is final', OLD.id, OLD.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'jobs_terminal_is_final';
    END IF;
    IF NEW.attempt <> OLD.attempt AND NOT (NEW.attempt = OLD.attempt + 1 AND NEW.state = 'pending') THEN
        RAISE EXCEPTION 'job %: attempt % cannot follow attempt %', OLD.id, NEW.attempt, OLD.attempt
            USING ERRCODE = 'check_violation', CONSTRAINT = 'jobs_attempts_in_order';
    END IF;
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('pending', 'provisioning'), ('pending', 'cancelled'), ('pending', 'failed'),
        ('provisioning', 'dispatching'), ('provisioning', 'pending'), ('provisioning', 'cancelled'), ('provisioning', 'failed'),
        ('dispatching', 'running'), ('dispatching', 'pending'), ('dispatching', 'completed'), ('dispatching', 'cancelled'), ('dispatching', 'failed'),
        ('running', 'completed'), ('running', 'pending'), ('running', 'cancelled'), ('running', 'failed')
    ) THEN
        RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'jobs_state_machine';
    END IF;
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
CREATE TRIGGER jobs_guard BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION jobs_guard();

-- What happened to a job, in order: one row for every transition and some for what happens between.
CREATE TABLE history (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id     bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    attempt    integer NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    event      text NOT NULL,
    from_state text,
    to_state   text NOT NULL,
    detail     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX history_of_job ON history (job_id, id);
-- However often an event is delivered, a job ends once.
CREATE UNIQUE INDEX history_one_end ON history (job_id)
    WHERE to_state IN ('completed', 'failed', 'cancelled') AND from_state <> to_state;

-- Browsers that should exist. A row comes before its browser and goes after it, so a browser without a row is an
-- orphan. A row without an attempt is a warm browser: the first attempt that claims it has it for its own.
CREATE TABLE browsers (
    name       text PRIMARY KEY,
    job_id     bigint,
    attempt    integer,
    key_id     text NOT NULL,
    address    text,
    created_at timestamptz NOT NULL DEFAULT now(),
    ready_at   timestamptz,
    CONSTRAINT browsers_one_per_attempt UNIQUE (job_id, attempt),
    CONSTRAINT browsers_of_attempt_or_warm CHECK ((job_id IS NULL) = (attempt IS NULL)),
    CONSTRAINT browsers_ready_has_address CHECK ((ready_at IS NULL) = (address IS NULL))
);
CREATE INDEX browsers_warm ON browsers (ready_at) WHERE job_id IS NULL;

-- Events committed with the change they announce and not yet taken by the broker.
CREATE TABLE outbox (
    type        text NOT NULL,
    job_id      bigint NOT NULL,
    attempt     integer NOT NULL,
    traceparent text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (type, job_id, attempt)
);
CREATE INDEX outbox_oldest ON outbox (created_at);

-- Events that nobody could handle.
CREATE TABLE dead_letters (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_source text NOT NULL,
    event_id     text NOT NULL,
    event_type   text NOT NULL,
    destination  text NOT NULL,
    reason       text NOT NULL,
    event        jsonb NOT NULL,
    times        integer NOT NULL DEFAULT 1,
    first_at     timestamptz NOT NULL DEFAULT now(),
    last_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letters_once UNIQUE (event_source, event_id, destination)
);

CREATE TABLE evidence (
    job_id       bigint NOT NULL REFERENCES jobs ON DELETE CASCADE,
    attempt      integer NOT NULL,
    name         text NOT NULL CONSTRAINT evidence_name_plain CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
    content_type text NOT NULL,
    size         integer NOT NULL CONSTRAINT evidence_size_limit CHECK (size BETWEEN 0 AND 10485760),
    sha256       bytea NOT NULL,
    content      bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, attempt, name)
);
ALTER TABLE evidence ALTER COLUMN content SET STORAGE EXTERNAL; -- pictures do not compress twice

-- The ledger of login codes: which attempt got which time step. The primary key is what "never twice" means.
CREATE TABLE totp_steps (
    account   text NOT NULL,
    step      bigint NOT NULL,
    job_id    bigint NOT NULL,
    attempt   integer NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account, step)
);
CREATE INDEX totp_steps_by_age ON totp_steps (issued_at);
