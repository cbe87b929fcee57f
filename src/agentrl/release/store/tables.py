"""All tables. Times are seconds since 1970 (UTC) as floats; what only people read is JSON in `record`.

The audit log is the truth of transitions, and the tables are made of it: see `lifecycle/`. Sessions, feedback and
replicas are written by gateways, several at once.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

SCHEMA_VERSION = 1

schema = Table("agentrl_schema", metadata, Column("version", Integer, primary_key=True))

bundles = Table(
    "bundles",
    metadata,
    Column("id", String(80), primary_key=True),  # sha256:...
    Column("name", String(200), nullable=False),
    Column("parent", String(80)),
    Column("created_at", Float, nullable=False),
    Column("manifest", JSON, nullable=False),
)

workflows = Table(
    "workflows",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("general_bundle", String(80), nullable=False, default=""),
    Column("general_upstream", String(200), nullable=False, default=""),
    Column("previous_bundle", String(80), nullable=False, default=""),
    Column("previous_upstream", String(200), nullable=False, default=""),
    Column("halted_at", Float),
    Column("halt", JSON),  # the failure records that led to it
    Column("failures_count_from", Float, nullable=False, default=0.0),  # a person's release of a halt sets it
    Column("version", Integer, nullable=False, default=0),
)

releases = Table(
    "releases",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("workflow", String(200), nullable=False, index=True),
    Column("candidate_bundle", String(80), nullable=False),
    Column("candidate_upstream", String(200), nullable=False),
    Column("baseline_bundle", String(80), nullable=False),
    Column("baseline_upstream", String(200), nullable=False),
    Column("state", String(20), nullable=False),
    Column("version", Integer, nullable=False),
    Column("share_percent", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("config", JSON, nullable=False),
    Column("entered_at", Float, nullable=False, default=0.0),  # when its state began: a share that grows changes it not
    Column("evidence_since", Float, nullable=False, default=0.0),  # sessions assigned earlier are of other graders
    Column("verdicts_since", Float, nullable=False, default=0.0),  # verdicts from before are of other graders
    Column("started_by", String(200), nullable=False, default=""),
)

routing = Table(
    "routing",
    metadata,
    Column("workflow", String(200), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("general_upstream", String(200), nullable=False),
    Column("general_bundle", String(80), nullable=False),
    Column("release_id", String(80), nullable=False, default=""),
    Column("channel", String(20), nullable=False, default=""),
    Column("candidate_upstream", String(200), nullable=False, default=""),
    Column("candidate_bundle", String(80), nullable=False, default=""),
    Column("share_percent", Float, nullable=False, default=0.0),
    Column("salt", String(80), nullable=False, default=""),
    Column("lease_renewal", Integer, nullable=False, default=0),
    Column("lease_seconds", Float, nullable=False, default=30.0),
    Column("lease_renewed_at", Float),  # for people and for a controller that comes back; replicas do not read it
)

replicas = Table(
    "replicas",
    metadata,
    Column("workflow", String(200), primary_key=True),
    Column("id", String(80), primary_key=True),
    Column("epoch", Integer, nullable=False),  # the last one that it has put into force
    Column("has_lease", Boolean, nullable=False),  # candidates may be assigned
    Column("candidate_in_flight", Integer, nullable=False),
    Column("last_candidate_at", Float),  # last new assignment to the candidate
    Column("drained_at", Float),  # end of the last answer of a candidate since its share went to 0
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("workflow", String(200), primary_key=True),
    Column("release_id", String(80), primary_key=True),  # empty: none was under way
    Column("session_id", String(80), primary_key=True),
    Column("arm", String(10), primary_key=True),  # in shadow both arms have the session
    Column("channel", String(20), nullable=False),
    Column("bundle", String(80), nullable=False, default=""),
    Column("upstream", String(200), nullable=False, default=""),
    Column("client", String(200), nullable=False, default=""),  # name of the API key that it came with
    Column("cluster", String(80), nullable=False, default=""),
    Column("intent", String(200), nullable=False, default=""),
    Column("is_forced", Boolean, nullable=False, default=False),  # an admin chose the arm: in no statistics
    Column("assigned_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("status", String(20), nullable=False, default="open"),  # open, closed, aborted, failed
    Column("requests", Integer, nullable=False, default=0),
    Column("fallbacks", Integer, nullable=False, default=0),  # answered by the baseline, as the candidate did not
    Column("errors", Integer, nullable=False, default=0),  # requests that no server gave a whole answer to
    Column("moved_at", Float),  # its candidate was taken back while it was open: what follows is the baseline's
    Column("unpriced", Integer, nullable=False, default=0),  # requests whose cost is not known, and so the session's
    Column("model_cost_usd", Float),  # of the tokens alone; cost_usd adds what feedback tells
    Column("proposed_calls", Integer, nullable=False, default=0),  # of tools, by the model
    Column("seconds", Float),
    Column("tokens_in", Integer),
    Column("tokens_out", Integer),
    Column("cost_usd", Float),
    Column("price_table", String(80)),
    Column("tool_calls", Integer),
    Column("tool_errors", Integer),
    Column("tool_infra_errors", Integer),
    Column("success", Boolean),
    Column("quality", Float),
    Column("safety_violations", Integer),
    Column("zero_tolerance", Boolean, nullable=False, default=False),  # one of the violations fails its gate by itself
    Column("human_override", Boolean),
    Column("human_override_kind", String(80)),
    Column("human_override_by", String(200)),
    Column("human_override_at", Float),
    Column("policy_kl", Float),
    Column("policy_kl_tokens", Integer),
    Column("extra", JSON),
    Column("record", JSON),  # the session's SessionRecord, once it is closed
    Column("shadow", JSON),  # of a candidate in shadow: what came of each copied turn, which its columns are made of
    Column("grader_version", String(80)),  # that judged it; empty: one without a version, or several; null: none yet
    Column("judged_at", Float),  # when that version first said something of it, by the events' own time
    Column("told", JSON),  # all feedback so far, folded: see gateway/feedback.py
    Column("recorded_at", Float),  # when it was written to the session log as it is now; null: it changed, or is open
)
Index("sessions_by_time", sessions.c.workflow, sessions.c.release_id, sessions.c.assigned_at)
Index("sessions_by_id", sessions.c.workflow, sessions.c.session_id)
Index("sessions_unrecorded", sessions.c.workflow, sessions.c.recorded_at, sessions.c.last_at)

response_sessions = Table(  # so that `previous_response_id` finds its session at any replica
    "response_sessions",
    metadata,
    Column("workflow", String(200), primary_key=True),
    Column("response_id", String(160), primary_key=True),  # the server's own, with the client's name before it
    Column("session_id", String(80), nullable=False),
    Column("at", Float, nullable=False),
)

session_content = Table(  # what was said, redacted, until the session's record takes it; gateway.keep_content
    "session_content",
    metadata,
    Column("workflow", String(200), primary_key=True),
    Column("release_id", String(80), primary_key=True),
    Column("session_id", String(80), primary_key=True),
    Column("arm", String(10), primary_key=True),
    Column("at", Float, nullable=False),
    Column("content", JSON, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    Column("workflow", String(200), primary_key=True),
    Column("event_id", String(80), primary_key=True),  # the client's own, hashed where it is long
    Column("session_id", String(80), nullable=False, index=True),
    Column("release_id", String(80), nullable=False, default=""),  # under which the session was when it was told
    Column("kind", String(20), nullable=False),  # outcome, override, grade, cost, safety, tool
    Column("payload", JSON, nullable=False),
    Column("payload_digest", String(80), nullable=False),
    Column("at", Float, nullable=False),  # the client's time of it: the later one of a kind wins, in any order
    Column("received_at", Float, nullable=False),
    Column("is_late", Boolean, nullable=False),  # after its window closed
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", String(80), primary_key=True),  # digest of the record
    Column("release_id", String(80), nullable=False, index=True),
    Column("gate", String(200), nullable=False),
    Column("stage", String(20), nullable=False),
    Column("look_no", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("verdict", String(20), nullable=False),
    Column("record", JSON, nullable=False),
)

transitions = Table(  # a cache of the audit log
    "transitions",
    metadata,
    Column("workflow", String(200), primary_key=True),  # workflows with folders of their own may share a database
    Column("entry", Integer, primary_key=True, autoincrement=False),  # line of the audit log, from 1
    Column("hash", String(80), nullable=False),
    Column("at", Float, nullable=False),
    Column("release_id", String(80), nullable=False, index=True),
    Column("kind", String(40), nullable=False),
    Column("record", JSON, nullable=False),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("subject", String(200), nullable=False, index=True),  # a release's transition, or a tool call
    Column("context_hash", String(80), nullable=False),
    Column("decision", String(20), nullable=False),  # approved, denied
    Column("approver", String(200), nullable=False),
    Column("at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float),
    Column("record", JSON, nullable=False),
)

tool_decisions = Table(  # what the tool policy said of a session's calls, counted
    "tool_decisions",
    metadata,
    Column("workflow", String(200), primary_key=True),
    Column("session_id", String(80), primary_key=True),
    Column("tool", String(80), primary_key=True),
    Column("decision", String(20), primary_key=True),  # allow, deny, needs_approval, scope
    Column("count", Integer, nullable=False),
)

drills = Table(
    "drills",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("release_id", String(80), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("is_counted", Boolean, nullable=False),
    Column("rollback_seconds", Float),
    Column("record", JSON, nullable=False),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("workflow", String(200), nullable=False, index=True),
    Column("release_id", String(80), nullable=False, default=""),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("version", Integer, nullable=False, default=0),
    Column("record", JSON, nullable=False),
)

suite_results = Table(  # which suites, frozen by digest, a release was measured on, and what came of it
    "suite_results",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("release_id", String(80), nullable=False, index=True),
    Column("kind", String(20), nullable=False),  # capability, adversarial, frozen
    Column("name", String(200), nullable=False),
    Column("digest", String(80), nullable=False),
    Column("at", Float, nullable=False),
    Column("record", JSON, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),  # weights have more bytes than 32 bits count
    Column("content", LargeBinary),  # small ones where there is no shared folder; None: in the folder
)

archived_suites = Table(  # suites by the digest that decisions name; their files are blobs
    "archived_suites",
    metadata,
    Column("digest", String(80), primary_key=True),  # of the suite's items
    Column("name", String(200), nullable=False),
    Column("version", String(200), nullable=False),
    Column("files", String(64), nullable=False),  # sha256 of the listing of its files
    Column("at", Float, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("workflow", String(200), nullable=False, index=True),
    Column("release_id", String(80), nullable=False, default=""),
    Column("at", Float, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("text", Text, nullable=False),
)

budgets = Table(  # weeks of money as a person kept them: `release.costs` changes with time, what it came to stays
    "budgets",
    metadata,
    Column("workflow", String(200), primary_key=True),
    Column("week", String(8), primary_key=True),  # 2026-W46
    Column("at", Float, nullable=False),
    Column("record", JSON, nullable=False),
)
