"""Make the first schema.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table; what later versions change is in later files."""
    _make_runs()
    _make_pull_tables()
    _make_trail()
    _make_data_cache()
    _make_checkpoints()
    _make_build_leases()
    op.create_table(
        "cool_downs",
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("place", sa.String(length=64), nullable=False),
        sa.Column("machine", sa.String(length=64), nullable=False),
        sa.Column("spot", sa.Boolean(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("strikes", sa.Integer(), nullable=False),
        sa.Column("denial", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "place", "machine", "spot", name=op.f("pk_cool_downs")),
    )
    op.create_table(
        "deliveries",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("guid", sa.String(length=64), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lock_token", sa.String(length=32), nullable=True),
        sa.Column("lock_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("guid", name=op.f("uq_deliveries_guid")),
    )
    op.create_index("ix_deliveries_due_at", "deliveries", ["due_at"], unique=False)
    op.create_index(
        "ix_deliveries_parked",
        "deliveries",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("state = 'parked'"),
        postgresql_where=sa.text("state = 'parked'"),
    )
    op.create_table(
        "delivery_bodies",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_delivery_bodies")),
    )
    op.create_table(
        "environments",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("lock", sa.Text(), nullable=True),
        sa.Column("sbom", sa.Text(), nullable=True),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environments")),
    )
    op.create_index("ix_environments_owner_id", "environments", ["owner_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
    )
    op.create_index("ix_events_run_id_kind_seq", "events", ["run_id", "kind", "seq"], unique=False)
    op.create_index("ix_events_run_id_seq", "events", ["run_id", "seq"], unique=False)
    op.create_table(
        "handled_intents",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run_id", sa.String(length=16), nullable=True),
        sa.Column("proof", sa.JSON(), nullable=False),
        sa.Column("allowed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_handled_intents")),
    )
    op.create_table(
        "instances",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=True),
        sa.Column("provider", sa.String(length=32), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("ordered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("nonce", sa.String(length=64), nullable=True),
        sa.Column("token_sha256", sa.String(length=64), nullable=True),
        sa.Column("enrolled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_seq", sa.Integer(), nullable=False),
        sa.Column("agent", sa.JSON(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=True),
        sa.Column("create_seen", sa.JSON(), nullable=True),
        sa.Column("provider_seen", sa.JSON(), nullable=True),
        sa.Column("rendezvous", sa.JSON(), nullable=True),
        sa.Column("stop", sa.Text(), nullable=True),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("log_bytes", sa.BigInteger(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_instances")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_instances_token_sha256")),
    )
    op.create_index(
        "ix_instances_provider_closed_at", "instances", ["provider", "closed_at"], unique=False
    )
    op.create_index("ix_instances_run_id", "instances", ["run_id"], unique=False)
    op.create_table(
        "kept_instances",
        sa.Column("kept_by", sa.String(length=63), nullable=False),
        sa.Column("machine", sa.String(length=63), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("offer", sa.JSON(), nullable=False),
        sa.Column("disk_bytes", sa.BigInteger(), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dies_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_by", sa.String(length=63), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("booked_microusd", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kept_by", name=op.f("pk_kept_instances")),
        sa.UniqueConstraint("taken_by", name=op.f("uq_kept_instances_taken_by")),
    )
    op.create_index("ix_kept_instances_gone_at", "kept_instances", ["gone_at"], unique=False)
    op.create_index("ix_kept_instances_machine", "kept_instances", ["machine"], unique=False)
    op.create_index(
        "ix_kept_instances_repository_id_ended_at",
        "kept_instances",
        ["repository_id", "ended_at"],
        unique=False,
    )
    op.create_table(
        "publications",
        sa.Column("subject", sa.String(length=96), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("external_id", sa.BigInteger(), nullable=True),
        sa.Column("sent_digest", sa.String(length=64), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sent", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("news", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("lock_token", sa.String(length=32), nullable=True),
        sa.Column("lock_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("subject", "kind", name=op.f("pk_publications")),
    )
    op.create_index("ix_publications_due_at", "publications", ["due_at"], unique=False)
    op.create_index(
        "ix_publications_refused",
        "publications",
        ["kind"],
        unique=False,
        sqlite_where=sa.text("state = 'refused'"),
        postgresql_where=sa.text("state = 'refused'"),
    )
    op.create_table(
        "repositories",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("full_name", sa.String(length=200), nullable=False),
        sa.Column("default_branch", sa.String(length=255), nullable=False),
        sa.Column("installation_id", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repositories")),
    )
    op.create_index("ix_repositories_owner_id", "repositories", ["owner_id"], unique=False)
    op.create_table(
        "secret_versions",
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("version", sa.String(length=300), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "name", name=op.f("pk_secret_versions")),
    )
    op.create_table(
        "server_state",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_server_state")),
    )
    op.create_table(
        "used_tokens",
        sa.Column("jti", sa.String(length=255), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_used_tokens")),
    )
    op.create_index("ix_used_tokens_expires_at", "used_tokens", ["expires_at"], unique=False)
    op.create_table(
        "wishes",
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "kind", name=op.f("pk_wishes")),
    )


def _make_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("commit_sha", sa.String(length=40), nullable=False),
        sa.Column("spec_path", sa.String(length=255), nullable=False),
        sa.Column("trigger", sa.String(length=128), nullable=False),
        sa.Column("repository", sa.String(length=200), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("state_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("cost_usd", sa.String(length=32), nullable=False),
        sa.Column("booked_microusd", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("look_again_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("news", sa.Integer(), nullable=False),
        sa.Column("lock_token", sa.String(length=32), nullable=True),
        sa.Column("lock_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("spec_text", sa.Text(), nullable=False),
        sa.Column("image", sa.Text(), nullable=True),
        sa.Column("environment_id", sa.String(length=64), nullable=True),
        sa.Column("pull_request", sa.Integer(), nullable=True),
        sa.Column("doc", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint(
            "repository_id",
            "commit_sha",
            "spec_path",
            "trigger",
            name=op.f("uq_runs_repository_id_commit_sha_spec_path_trigger"),
        ),
    )
    op.create_index("ix_runs_environment_id", "runs", ["environment_id"], unique=False)
    op.create_index("ix_runs_look_again_at", "runs", ["look_again_at"], unique=False)
    op.create_index(
        "ix_runs_repository_id_name_number",
        "runs",
        ["repository_id", "name", "number"],
        unique=False,
    )
    op.create_index(
        "ix_runs_repository_id_finished_at",
        "runs",
        ["repository_id", "finished_at"],
        unique=False,
    )
    op.create_index(
        "ix_runs_repository_id_pull_request_seq",
        "runs",
        ["repository_id", "pull_request", "seq"],
        unique=False,
    )
    op.create_index("ix_runs_repository_id_seq", "runs", ["repository_id", "seq"], unique=False)
    op.create_index("ix_runs_seq", "runs", ["seq"], unique=True)


def _make_checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("run_id", sa.String(length=16), nullable=False),
        sa.Column("rank", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("manifest_sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=True),
        sa.Column("saved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "rank", "number", name=op.f("pk_checkpoints")),
    )


def _make_build_leases() -> None:
    op.create_table(
        "build_leases",
        sa.Column("owner_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "key", name=op.f("pk_build_leases")),
    )
    op.create_index("ix_build_leases_until", "build_leases", ["until"], unique=False)


def _make_pull_tables() -> None:
    op.create_table(
        "paces",
        sa.Column("installation_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("doc", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("installation_id", name=op.f("pk_paces")),
    )
    op.create_table(
        "policies",
        sa.Column("repository_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("doc", sa.JSON(), nullable=True),
        sa.Column("pushes", sa.BigInteger(), nullable=False),
        sa.Column("read_after", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", name=op.f("pk_policies")),
    )
    op.create_table(
        "pulls",
        sa.Column("repository_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("doc", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "number", name=op.f("pk_pulls")),
    )


def _make_trail() -> None:
    op.create_table(
        "trail",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verb", sa.String(length=16), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("actor_kind", sa.String(length=16), nullable=False),
        sa.Column("actor_id", sa.BigInteger(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_folded", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("proof", sa.JSON(), nullable=False),
        sa.Column("repository_id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(length=16), nullable=True),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.Column("once", sa.String(length=300), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_trail")),
        sa.UniqueConstraint("once", name=op.f("uq_trail_once")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_trail_at", "trail", ["at"], unique=False)
    for column in ("run_id", "repository_id", "actor_folded", "verb"):
        op.create_index(f"ix_trail_{column}_seq", "trail", [column, "seq"], unique=False)
    for statement in _GUARDS[op.get_bind().dialect.name]:
        op.execute(sa.DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]


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


def _make_data_cache() -> None:
    op.create_table(
        "data_trees",
        sa.Column("tenant", sa.String(length=24), nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("revision", sa.String(length=128), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tree_sha256", sa.String(length=64), nullable=True),
        sa.Column("tree_bytes", sa.BigInteger(), nullable=True),
        sa.Column("holder", sa.String(length=63), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "part", "key", name=op.f("pk_data_trees")),
    )
    op.create_table(
        "data_blobs",
        sa.Column("tenant", sa.String(length=24), nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leaving", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "part", "sha256", name=op.f("pk_data_blobs")),
    )
    op.create_table(
        "data_tree_blobs",
        sa.Column("tenant", sa.String(length=24), nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "part", "sha256", "key", name=op.f("pk_data_tree_blobs")),
    )
