-- What operators hold back and send again. Only added to: the version before works with it.
-- depends: 0001.initial

-- Nothing new starts at a paused provider or under a paused account.
CREATE TABLE pauses (
    kind      text NOT NULL CONSTRAINT pauses_kind_known CHECK (kind IN ('provider', 'account')),
    name      text NOT NULL,
    reason    text NOT NULL CONSTRAINT pauses_reason_length CHECK (length(reason) BETWEEN 1 AND 500),
    paused_by text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name)
);

-- A letter that was replayed stays, for who wants to know; one that came back since is open again.
ALTER TABLE dead_letters
    ADD COLUMN replayed_at timestamptz,
    ADD COLUMN replayed_by text,
    ADD CONSTRAINT dead_letters_replayed_by_somebody CHECK ((replayed_at IS NULL) = (replayed_by IS NULL));
