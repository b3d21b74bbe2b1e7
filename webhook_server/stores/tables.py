"""The tables, as SQLAlchemy Core; `migrations/` brings an older database to this shape.

SQLite and PostgreSQL get the same tables. Moments are UTC; SQLite keeps no zone: `Moment` adds it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows only in a column of the exact type INTEGER: https://sqlite.org/autoinc.html
Serial = BigInteger().with_variant(Integer, "sqlite")


class Moment(TypeDecorator[datetime]):
    """A moment in UTC, aware on both sides."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - the base class has it
    ) -> datetime | None:
        """Refuse a naive moment; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment must carry its time zone")
        return value.astimezone(UTC)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - the base class has it
    ) -> datetime | None:
        """Return an aware moment."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # before all that we store


def is_set(moment: ColumnElement[Any]) -> ColumnElement[bool]:
    """Say that a moment is there, so that its index is used.

    For `IS NOT NULL` SQLite reads the whole table (test_query_plans.py asks it).
    """
    return moment > _BEGINNING


def _index_of_some(name: str, column: str, *, where: str) -> Index:
    """Return an index of the rows for which `where` holds."""
    index = Index(name, column, sqlite_where=text(where))

    # Said by its keyword it would load PostgreSQL's dialect in every server: 3 MiB, and a
    # twentieth of the start.
    def of_some(_: MetaData, connection: Connection, **__: object) -> None:
        if connection.dialect.name == "postgresql":
            index.dialect_options["postgresql"]["where"] = text(where)

    event.listen(metadata, "before_create", of_some)
    return index


#: One row a GitHub repository we have heard of. Ids are the identity, names are for people.
repositories = Table(
    "repositories",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("owner_id", BigInteger, nullable=False),
    Column("full_name", String(200), nullable=False),
    Column("default_branch", String(255), nullable=False),
    Column("installation_id", BigInteger),  # None: look it up; 0: the app is not installed
    Column("seen_at", Moment, nullable=False),
    Index("ix_repositories_owner_id", "owner_id"),
)

#: The inbox: what GitHub delivered, stored before it is answered.
deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", Serial, primary_key=True),
    Column("guid", String(64), nullable=False, unique=True),
    Column("event", String(64), nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("state", String(16), nullable=False),  # pending, done, ignored, parked
    Column("note", Text, nullable=False, default=""),
    Column("tries", Integer, nullable=False, default=0),
    Column("due_at", Moment),  # None once handled
    Column("lock_token", String(32)),
    Column("lock_until", Moment),
    Index("ix_deliveries_due_at", "due_at"),
    # Of parked ones alone, which are few: they are counted at each look at /metrics.
    _index_of_some("ix_deliveries_parked", "seq", where="state = 'parked'"),
)

#: The bodies of deliveries, exactly as signed, until they are handled; those of parked ones stay.
#: A table of its own, since SQLite writes a row anew with each change of any of its columns.
delivery_bodies = Table(
    "delivery_bodies",
    metadata,
    Column("seq", Serial, primary_key=True, autoincrement=False),  # of its delivery
    Column("body", LargeBinary, nullable=False),
)

#: One row a run. `doc` is the whole Run (cynthus.codec); the other columns are for finding it.
runs = Table(
    "runs",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("seq", BigInteger, nullable=False),  # order of arrival: newest first in lists
    Column("repository_id", BigInteger, nullable=False),
    Column("commit_sha", String(40), nullable=False),
    Column("spec_path", String(255), nullable=False),
    Column("trigger", String(128), nullable=False),
    Column("repository", String(200), nullable=False),  # owner/name, for people
    Column("ref", Text, nullable=False),
    Column("name", String(64), nullable=False),  # the spec's; empty if unreadable
    Column("number", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("state_since", Moment, nullable=False),
    Column("outcome", String(16)),  # from `finished` on
    Column("reason", Text, nullable=False),
    Column("cost_usd", String(32), nullable=False),  # a decimal as text: exact in both databases
    # Millionths of a USD, so that databases can add them up: what it counts against budgets.
    Column("booked_microusd", BigInteger, nullable=False, default=0),
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment),
    Column("version", Integer, nullable=False),  # compare-and-swap; grows by one a save
    Column("look_again_at", Moment),  # the index of deadlines; None: nothing to do
    # Grows with every wake: a pass that began before the news must not put off the next one.
    Column("news", Integer, nullable=False, default=0),
    Column("lock_token", String(32)),
    Column("lock_until", Moment),
    Column("failures", Integer, nullable=False, default=0),  # passes in a row that raised
    Column("spec_text", Text, nullable=False),  # the exact bytes that were hashed
    # Both from the moment of the run request on: nobody may delete an image that is to be pulled.
    Column("image", Text),
    Column("environment_id", String(64)),
    Column("pull_request", Integer),
    Column("doc", JSON, nullable=False),
    UniqueConstraint("repository_id", "commit_sha", "spec_path", "trigger"),
    Index("ix_runs_look_again_at", "look_again_at"),
    Index("ix_runs_seq", "seq", unique=True),
    Index("ix_runs_repository_id_seq", "repository_id", "seq"),
    Index("ix_runs_repository_id_name_number", "repository_id", "name", "number"),
    Index("ix_runs_repository_id_finished_at", "repository_id", "finished_at"),
    Index("ix_runs_environment_id", "environment_id"),
    Index("ix_runs_repository_id_pull_request_seq", "repository_id", "pull_request", "seq"),
)

#: What images consist of, once for all runs of an owner that were told the same.
environments = Table(
    "environments",
    metadata,
    Column("id", String(64), primary_key=True),  # SHA-256 of owner and content
    Column("owner_id", BigInteger, nullable=False),
    Column("key", String(32), nullable=False),
    Column("lock", Text),
    Column("sbom", Text),
    Column("stored_at", Moment, nullable=False),
    Index("ix_environments_owner_id", "owner_id"),
)

#: Who builds which environment just now; the others wait for them.
build_leases = Table(
    "build_leases",
    metadata,
    Column("owner_id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", String(32), primary_key=True),
    Column("holder", Text, nullable=False),  # the workflow run's URL
    Column("until", Moment, nullable=False),
    Index("ix_build_leases_until", "until"),
)

#: Data that runs share through the blob store: one row a dataset and part of a tenant's cache.
data_trees = Table(
    "data_trees",
    metadata,
    Column("tenant", String(24), primary_key=True),  # runs.data_cache.Scope.tenant
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("key", String(64), primary_key=True),
    Column("source", Text, nullable=False),
    Column("revision", String(128), nullable=False),
    Column("files", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # fetching, ready
    Column("tree_sha256", String(64)),  # the blob with the list of its files
    Column("tree_bytes", BigInteger),
    Column("holder", String(63), nullable=False),  # the instance that has it from its hub
    Column("until", Moment, nullable=False),  # its lease
    Column("created_at", Moment, nullable=False),
    Column("used_at", Moment, nullable=False),
)

#: The bytes of cached data: what is proven to lie in the blob store.
data_blobs = Table(
    "data_blobs",
    metadata,
    Column("tenant", String(24), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("sha256", String(64), primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("used_at", Moment, nullable=False),
    Column("leaving", Boolean, nullable=False),  # its bytes are being deleted: wait, bring it anew
)

#: Which blobs a tree consists of; a blob of none is swept.
data_tree_blobs = Table(
    "data_tree_blobs",
    metadata,
    Column("tenant", String(24), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("sha256", String(64), primary_key=True),
    Column("key", String(64), primary_key=True),
)

#: What people asked for, and the Action's run request. Unique by meaning, never by delivery.
wishes = Table(
    "wishes",
    metadata,
    Column("run_id", String(16), primary_key=True),
    Column("kind", String(16), primary_key=True),  # cancel, image, approval, extend
    Column("body", JSON, nullable=False),
    Column("at", Moment, nullable=False),
)

#: What is seen of each instance we ordered; written by the agent's door and by `perform`.
instances = Table(
    "instances",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("run_id", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("rank", Integer),  # among the instances of a gang; None: there is no gang
    Column("provider", String(32), nullable=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("ordered_at", Moment, nullable=False),
    Column("nonce", String(64)),  # of the one agent that enrolled
    Column("token_sha256", String(64), unique=True),
    Column("enrolled_at", Moment),
    Column("heartbeat_at", Moment),
    Column("heartbeat_seq", Integer, nullable=False, default=0),
    Column("agent", JSON),  # AgentSeen's rest: state, engine, exit, outputs, preempted
    Column("facts", JSON),  # Facts, as claimed at enrolment
    Column("create_seen", JSON),  # CreateSeen
    Column("provider_seen", JSON),  # ProviderSeen
    Column("rendezvous", JSON),  # Rendezvous, which heartbeat answers repeat until the agent runs
    Column("stop", Text),  # the sentence that the next heartbeat's answer carries
    Column("deadline_at", Moment),  # the new one of a run that was given more time
    Column("closed_at", Moment),  # from here on its agent gets 410
    Column("log_bytes", BigInteger, nullable=False, default=0),
    Column("counts", JSON, nullable=False, default=dict),  # Counts: the run's, carried along
    Index("ix_instances_run_id", "run_id"),
    Index("ix_instances_provider_closed_at", "provider", "closed_at"),
)

#: Places that refused a kind of machine: nobody asks them again until then.
cool_downs = Table(
    "cool_downs",
    metadata,
    Column("provider", String(32), primary_key=True),
    Column("place", String(64), primary_key=True),  # a zone, a region, or * for everywhere
    Column("machine", String(64), primary_key=True),
    Column("spot", Boolean, primary_key=True),
    Column("until", Moment, nullable=False),
    Column("strikes", Integer, nullable=False),  # refusals in a row: each doubles the wait
    Column("denial", String(16), nullable=False),
    Column("text", Text, nullable=False),
)

#: A run's feed: transitions, log text, metrics, samples; append-only, read by `seq`.
events = Table(
    "events",
    metadata,
    Column("seq", Serial, primary_key=True),
    Column("run_id", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("rank", Integer),  # of the instance that says it; None: there is no gang
    Column("kind", String(16), nullable=False),
    Column("at", Moment, nullable=False),
    Column("body", JSON, nullable=False),
    Index("ix_events_run_id_seq", "run_id", "seq"),
    Index("ix_events_run_id_kind_seq", "run_id", "kind", "seq"),
)

#: What the outside shows of a run: the publisher compares and sends only differences.
publications = Table(
    "publications",
    metadata,
    Column("subject", String(96), primary_key=True),  # a run's id, pull/<repository id>/<number> …
    Column("kind", String(16), primary_key=True),  # check_run, release, comment, plan, …
    Column("repository_id", BigInteger, nullable=False),
    Column("external_id", BigInteger),  # check-run id, release id, comment id
    Column("sent_digest", String(64)),  # of what was last sent
    Column("sent_at", Moment),
    Column("sent", JSON, nullable=False, default=dict),  # progress: annotations, assets done
    Column("state", String(16), nullable=False, default="pending"),  # pending, done, refused
    Column("url", Text),
    Column("note", Text),
    Column("due_at", Moment),
    Column("news", Integer, nullable=False, default=0),  # as runs.news
    Column("failures", Integer, nullable=False, default=0),
    Column("lock_token", String(32)),
    Column("lock_until", Moment),
    Index("ix_publications_due_at", "due_at"),
    _index_of_some("ix_publications_refused", "kind", where="state = 'refused'"),  # as of parked
)

#: One row a pull request where something of ours happened. `doc` is the Pull (cynthus.codec).
pulls = Table(
    "pulls",
    metadata,
    Column("repository_id", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("doc", JSON, nullable=False),
    Column("changed_at", Moment, nullable=False),
)

#: The policy file of each repository, as it was last read from the default branch.
policies = Table(
    "policies",
    metadata,
    Column("repository_id", BigInteger, primary_key=True, autoincrement=False),
    Column("doc", JSON),  # PolicySeen; none: only pushed to, and not yet read
    # Counted, not timed: the clocks of replicas differ, and whoever waits for GitHub may pause.
    Column("pushes", BigInteger, nullable=False),  # that may have changed the file
    Column("read_after", BigInteger, nullable=False),  # of them; fewer: the reading is stale
)

#: How fast each installation may still write to GitHub, where several replicas write.
paces = Table(
    "paces",
    metadata,
    Column("installation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("doc", JSON, nullable=False),  # PaceState
)

#: Instances that wait for their repository's next run; a row stays for what it has cost.
kept_instances = Table(
    "kept_instances",
    metadata,
    Column("kept_by", String(63), primary_key=True),  # the instance name it worked under last
    Column("machine", String(63), nullable=False),  # its provider's name of it
    Column("repository_id", BigInteger, nullable=False),
    Column("run_id", String(16), nullable=False),
    Column("offer", JSON, nullable=False),
    Column("disk_bytes", BigInteger),
    Column("since", Moment, nullable=False),
    Column("until", Moment, nullable=False),
    Column("dies_at", Moment, nullable=False),
    Column("heard_at", Moment, nullable=False),
    Column("taken_by", String(63), unique=True),
    Column("ended_at", Moment),
    Column("gone_at", Moment),
    Column("booked_microusd", BigInteger, nullable=False),  # as of runs
    Index("ix_kept_instances_repository_id_ended_at", "repository_id", "ended_at"),
    Index("ix_kept_instances_machine", "machine"),
    Index("ix_kept_instances_gone_at", "gone_at"),
)

#: OIDC token ids that were used once.
used_tokens = Table(
    "used_tokens",
    metadata,
    Column("jti", String(255), primary_key=True),
    Column("expires_at", Moment, nullable=False),
    Index("ix_used_tokens_expires_at", "expires_at"),
)

#: Which version of a secret a run was first given: every later asking gets the same one.
secret_versions = Table(
    "secret_versions",
    metadata,
    Column("run_id", String(16), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("version", String(300), nullable=False),  # the store's own name for it, never a value
)

#: One row a checkpoint that can be restored; its files' list is a blob beside their bytes.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("run_id", String(16), primary_key=True),
    Column("rank", Integer, primary_key=True, autoincrement=False),  # 0 without a gang
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("repository_id", BigInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("manifest_sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("files", Integer, nullable=False),
    Column("step", BigInteger),
    Column("progress", Float),
    Column("saved_at", Moment, nullable=False),
)

#: Small facts of the server itself: control-plane id, cursor of the delivery sweep.
server_state = Table(
    "server_state",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

#: Intents that were carried out, by their meaning: a replay under a new delivery id does nothing.
handled_intents = Table(
    "handled_intents",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("at", Moment, nullable=False),
    Column("run_id", String(16)),
    Column("proof", JSON, nullable=False),  # who, permission, when
    Column("allowed", Boolean, nullable=False),
)


#: Who did what, why, by which right. Rows are added only: see the guard below.
trail = Table(
    "trail",
    metadata,
    Column("seq", Serial, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("verb", String(16), nullable=False),  # runs.trail.DeedVerb
    Column("done", Boolean, nullable=False),  # False: refused, and the text says why
    Column("text", Text, nullable=False),
    Column("actor_kind", String(16), nullable=False),
    Column("actor_id", BigInteger),  # GitHub's
    Column("actor", Text, nullable=False),  # a login, an instance's name
    Column("actor_folded", Text, nullable=False),  # to be found in any case of letters
    Column("source", Text, nullable=False),
    Column("proof", JSON, nullable=False),
    Column("repository_id", BigInteger, nullable=False),  # 0: none
    Column("run_id", String(16)),
    Column("subject", Text, nullable=False),
    Column("before", JSON, nullable=False),
    Column("after", JSON, nullable=False),
    Column("once", String(300), unique=True),
    Index("ix_trail_at", "at"),
    Index("ix_trail_run_id_seq", "run_id", "seq"),
    Index("ix_trail_repository_id_seq", "repository_id", "seq"),
    Index("ix_trail_actor_folded_seq", "actor_folded", "seq"),
    Index("ix_trail_verb_seq", "verb", "seq"),
    sqlite_autoincrement=True,  # a number is never given twice, even after a purge of all rows
)

#: server_state: rows of the trail older than this may be deleted, in the transaction that says so.
PURGE_BEFORE = "trail_purge_before"

# The database itself refuses what would rewrite the trail, whoever's program asks for it.
_GUARDS = {
    "sqlite": (
        """
CREATE TRIGGER trail_no_update BEFORE UPDATE ON trail
BEGIN SELECT RAISE(ABORT, 'the trail is append-only'); END""",
        """
CREATE TRIGGER trail_no_delete BEFORE DELETE ON trail
WHEN NOT EXISTS (
  SELECT 1 FROM server_state WHERE key = 'trail_purge_before' AND OLD.at < value
)
BEGIN SELECT RAISE(ABORT, 'the trail is append-only'); END""",
    ),
    "postgresql": (
        """
CREATE FUNCTION trail_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND EXISTS (
    SELECT 1 FROM server_state WHERE key = 'trail_purge_before'
      AND to_char(OLD.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') < value
  ) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'the trail is append-only';
END $$""",
        """
CREATE TRIGGER trail_no_change BEFORE UPDATE OR DELETE ON trail
FOR EACH ROW EXECUTE FUNCTION trail_guard()""",
        """
CREATE TRIGGER trail_no_truncate BEFORE TRUNCATE ON trail
FOR EACH STATEMENT EXECUTE FUNCTION trail_guard()""",
    ),
}
for _dialect, _statements in _GUARDS.items():
    for _statement in _statements:
        event.listen(
            trail,
            "after_create",
            DDL(_statement.replace("%", "%%")).execute_if(dialect=_dialect),  # type: ignore[no-untyped-call]
        )
