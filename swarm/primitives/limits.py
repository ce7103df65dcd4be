"""Every cap of the system with its reason: protocol constants apart from local caps.

A *protocol constant* is part of what all devices must agree on (a block that one device takes and another refuses
would split them), so `tests/primitives/test_limits.py` pins each to a golden value. A *local cap* protects one device
and may differ between devices.
"""

from __future__ import annotations

from typing import Final

# ----------------------------------------------------------------------------- protocol constants (golden test)

NUMBER_MAX: Final = 2**63 - 1
"""All u64 fields stay below 2^63: SQLite's and every other signed 64-bit integer holds them."""

VOTERS_MAX: Final = 256
"""Voters of one epoch. A certificate of 256 signatures is 17 KiB and fits a frame with room to spare."""

MEMBERS_MAX: Final = 4096
"""Members of a genesis file, observers and operators included."""

COMMAND_BYTES_MAX: Final = 16 * 1024
"""One command of an application. Bulk data does not belong on the log; its digest does."""

SUBMISSION_COMMANDS_MAX: Final = 64
"""Commands bundled in one submission."""

SUBMISSION_BYTES_MAX: Final = 64 * 1024
"""One submission as received, signature included."""

PROOF_BYTES_MAX: Final = 128 * 1024
"""One proof: a leaf of 64 KiB, 256 signatures of 70 bytes, a path of 64 hashes."""

BLOCK_SUBMISSIONS_MAX: Final = 256
"""Submissions of one block: 256 ids are 8 KiB of header."""

BLOCK_BYTES_MAX: Final = 160 * 1024
"""All submissions of one block together, so that a block with its header and certificate fits one answer."""

SEQUENCE_WINDOW: Final = 1024
"""A submission counts only with a sequence number in (high - 1024, high + 1024] (PROTOCOL section 2)."""

OUTSTANDING_MAX: Final = SEQUENCE_WINDOW - 1
"""An origin keeps fewer than 1,024 submissions outstanding and answers `busy` beyond."""

SNAPSHOT_EVERY_DEFAULT: Final = 256
"""Heights between two application snapshots when genesis does not say."""

SNAPSHOT_EVERY_MAX: Final = 2**20
"""Heights between two application snapshots at most: a newcomer replays no more than that."""

GENESIS_APPS_MAX: Final = 16
"""Applications of one swarm."""

GENESIS_BYTES_MAX: Final = 2 * 1024 * 1024
"""Characters of a genesis file: 4,096 members of 150 characters are 600 KiB."""

EVENT_BYTES_MAX: Final = SUBMISSION_BYTES_MAX // 2
"""The body of one event, the router's tag included: a leaf of it fits every answer and proof."""

EVENTS_PER_COMMAND_MAX: Final = 64
"""Events of one command: an application may not flood the log that its swarm pays for."""

SNAPSHOT_BYTES_MAX: Final = 128 * 1024 * 1024
"""The canonical snapshot of all applications; 1,024 open decisions of 512 ballots each are 50 MiB."""

# ----------------------------------------------------------------------------- decisions (part of decisions@1)

DECISION_OPTIONS_MAX: Final = 32
DECISION_ELIGIBLE_MAX: Final = 512
"""Eligible devices of one decision: 512 ballots of 44 bytes are 22 KiB and fit one event of the log."""

DECISIONS_OPEN_PER_ORIGIN_MAX: Final = 128
"""Open decisions of one opener, so that one liar cannot fill the table of all for a week."""

DECISION_SCALE_MAX: Final = 9
"""Decimal places: nine digits of a number below 2^31 still fit 63 bits."""

DECISIONS_OPEN_MAX: Final = 1024
"""Open decisions of one swarm; an opening beyond is rejected with a reason, on every device alike."""

DECISIONS_CLOSED_KEPT: Final = 4096
"""Ids of closed decisions kept to say `closed` instead of `unknown`; the outcomes live in the log."""

DEADLINE_MS_MAX: Final = 7 * 24 * 3600 * 1000
"""A decision closes within a week or needs another way."""

# ----------------------------------------------------------------------------- firmware (part of rollout@1)

RELEASE_KEYS_MAX: Final = 16
"""Keys that may sign releases; each signature costs every voter a verification."""

MANIFEST_BYTES_MAX: Final = 4096
"""One manifest: fixed fields of some 300 bytes, 1,024 bytes of notes, the rest for needs."""

MANIFEST_NEEDS_MAX: Final = 32
"""Needs of one release: 32 of 46 bytes."""

MANIFEST_NOTES_MAX: Final = 1024

CHUNK_BYTES_MIN: Final = 4 * 1024
"""A chunk below costs more in frames than it saves in repeats."""

CHUNK_BYTES_MAX: Final = 32 * 1024
"""A chunk with its frame fits every broker's default payload with room."""

RELEASES_KEPT: Final = 128
"""Releases in the state; those that nothing refers to any more make room, else a proposal is a no-op."""

PLANS_KEPT: Final = 128
"""Plans in the state, ended ones included; the oldest ended ones make room, else a plan is refused."""

PLANS_WAITING_PER_ORIGIN_MAX: Final = 4
"""Plans of one origin that have not begun; a further one takes the place of its oldest without a go."""

PLAN_STEPS_MAX: Final = 32
PLAN_ATTEMPTS_MAX: Final = 16
PLAN_RETRIES_MAX: Final = 16

STAGE_MEMBERS_MAX: Final = 512
"""Members of one stage: 512 names of 33 bytes fit one event of the log."""

ROLLOUT_REASON_MAX: Final = 100
"""Characters of a reason in a halt, a revocation or a report."""

STAGES_KEPT: Final = 1024
"""Stages of one plan; one that would need more freezes at its deadline, and can be given up or taken back."""

# ----------------------------------------------------------------------------- local caps

FRAME_BYTES_MAX: Final = 256 * 1024
"""One MQTT payload. Mosquitto 2.1 takes 2 MB by default, the embedded broker is told this number."""

VIEW_WINDOW: Final = 4
"""W of R0: statements up to `cur + W` get a slot. Nothing is allocated by an attacker-chosen number."""

ATTEST_SLOTS: Final = 4
"""Newest attestations kept per sender (R0)."""

POOL_SUBMISSIONS_MAX: Final = 8192
"""Submissions held in memory. Above it the newest of others are refused and counted."""

POOL_PER_ORIGIN_MAX: Final = SEQUENCE_WINDOW
"""Pool entries of one origin, so that one origin cannot fill the pool of the others."""

POOL_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes of the pool: a Pi Zero 2 W has 512 MB in all."""

POOL_BYTES_PER_ORIGIN_MAX: Final = POOL_BYTES_MAX // 8
"""Bytes of one origin's pending submissions: 1,024 of 64 KiB each would be twice the pool."""

FETCHES_MAX: Final = 256
"""Outstanding fetches; more are asked for when these are answered."""

ANSWER_BLOCKS_MAX: Final = 64
"""Blocks in one answer; FRAME_BYTES_MAX usually ends it earlier."""

ANSWER_CERTIFICATES_MAX: Final = 32
"""Certificates in one answer."""

INBOX_FRAMES_MAX: Final = 4096
"""Frames waiting for the next turn; a full inbox drops and counts."""

INBOX_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes waiting for the next turn."""

OUTBOX_FRAMES_MAX: Final = 4096
"""Frames waiting for the broker; while it is away the oldest are dropped and counted, R8 sends again."""

OUTBOX_BYTES_MAX: Final = 32 * 1024 * 1024
"""Bytes waiting for the broker: 4,096 frames of full size would be a gigabyte."""

OUTBOX_BULK_FRAMES_MAX: Final = 64
"""Chunks waiting for the broker, 2 MiB; twice what all places for askers can have open at a time."""

TURN_INPUTS_MAX: Final = 512
"""Inputs taken into one turn, so that a flood does not delay the disk for ever."""

TURN_ROUNDS_MAX: Final = 256
"""Rounds of absorb-sign-advance in one turn; more is a bug, not load."""

EGRESS_FRAMES_PER_SECOND: Final = 400
"""R8's token bucket: what a device publishes at most in the long run."""

EGRESS_BURST: Final = 800
"""R8's token bucket: what it may publish at once."""

EVIDENCE_MAX: Final = 8
"""Evidence pairs handed out per voter since the start: one convicts, a liar could make millions."""

UNFINALIZED_VIEWS_MAX: Final = 4096
"""Views with stored certificates above the finalized one; at 30 s a view that is a day and a half of outage."""

ACTIONS_MAX: Final = 4096
"""Actions of behaviours waiting to be run."""

BEHAVIOURS_MAX: Final = 64
"""Behaviours of one device."""

CLIENT_WAITERS_MAX: Final = 256
"""Light-client questions that one member keeps waiting for an answer (`await`)."""

QUERIES_PER_TURN_MAX: Final = 64
"""Requests of others answered in one turn; the rest is dropped and counted, they ask again."""

SETTINGS_BYTES_MAX: Final = 256 * 1024
"""A settings or scenario file. People write these; a larger one is the wrong file."""

DURATION_MS_MAX: Final = 1_000 * 24 * 3600 * 1000
"""The longest duration in a settings file: 1,000 days. More is a slip of a unit."""

STORE_CHECK_BYTES_MAX: Final = 64 * 1024 * 1024
"""Up to this size a store is checked in full when it is opened, above it without comparing indexes with tables."""

STORE_WAL_PAGES: Final = 4096
"""Pages of the write-ahead log (8 MiB) after which a commit also pays for moving them into the database."""

STORE_WAL_BYTES_MAX: Final = 16 * 1024 * 1024
"""What the write-ahead log keeps of its file after that; a burst larger than this gives the space back."""

SNAPSHOTS_KEPT: Final = 2
"""Newest application snapshots in a store: the last one, and the one before in case the last is damaged."""

CHAIN_RECORDS_KEPT: Final = 256
"""Own records above which a store tries to prune without waiting for the next finalization."""

VERIFIED_CACHE_MAX: Final = 2048
"""Good signatures remembered by one device: a few views of 50 voters, some 400 KB."""

HEARTBEAT_MS: Final = 10_000
"""Interval of the heartbeat (R11), always."""

SILENT_BEATS: Final = 3
"""Heartbeats without a word after which a peer counts as silent: one or two are lost easily, at QoS 0."""

CLAIM_QUESTIONS_MAX: Final = 8
"""Questions for the sake of a claim that fewer than r+1 voters make; eight back-offs are a quarter of a minute."""

CLAIM_DOUBT_MS: Final = HEARTBEAT_MS
"""For how long such a claimant is then ignored at first: until about its next heartbeat."""

CLAIM_DOUBT_MAX_MS: Final = 16 * HEARTBEAT_MS
"""And at most: a liar costs eight questions in that time, an honest one that nobody could ask is asked again."""

COMMANDS_WAITING_MAX: Final = 4096
"""Own commands waiting to be bundled into a submission; beyond, the caller hears `busy`."""

OUTCOMES_TOLD_AGAIN: Final = 16
"""Closed outcomes told to the behaviours again after a start, in case the crash came before their action."""

CLIENT_WAIT_MS: Final = 60_000
"""How long a member keeps a light client's `await`; the client asks again."""

CLIENT_EXPIRY_HEIGHTS: Final = 4096
"""Heights after which a light client's submission is void, so that its absence can be proved; minutes under full load."""

CLIENT_ENTRIES_MAX: Final = 1024
"""Entries of the log in one answer to a light client; FRAME_BYTES_MAX usually ends it earlier."""

ANSWER_BYTES_PER_MEMBER_BURST: Final = 2 * 1024 * 1024
"""What one member may be answered at once: eight full frames, enough for the start of a catch-up."""

ANSWER_BYTES_PER_MEMBER_PER_SECOND: Final = 1024 * 1024
"""And in the long run; a log of 15 MB is fetched in a quarter of a minute from one peer."""

ANSWER_BYTES_BURST: Final = 8 * 1024 * 1024
"""What all members together may be answered at once."""

ANSWER_BYTES_PER_SECOND: Final = 4 * 1024 * 1024
"""And in the long run: a Pi's 100 Mbit/s link keeps two thirds for votes and submissions."""

QUESTIONS_PER_MEMBER_MAX: Final = 16
"""Questions of one member answered in one turn; the rest is dropped and counted, it asks again."""

CLIENT_WAITERS_PER_MEMBER_MAX: Final = 64
"""Waiting places of one member, so that one cannot take all of them."""

PROTOCOL_COMMANDS_WAITING_MAX: Final = 2 * DECISIONS_OPEN_MAX
"""Own ballots and `deadline passed` waiting, beside COMMANDS_WAITING_MAX: one of each for every open decision."""

CHUNKS_OUTSTANDING_MAX: Final = 4
"""Chunks that one device has asked for and not got, over all peers: 128 KiB on their way hold no vote up for long."""

ANSWER_LEAVES_MAX: Final = 1024
"""Leaf hashes in one answer: 34 KiB, as large as a chunk."""

ASK_BITMAP_BYTES_MAX: Final = 32
"""Bitmap of one question for chunks: its four lie within 256."""

QUESTIONS_REMEMBERED: Final = 256
"""Own questions for chunks whose late answers are still welcome."""

CHUNKS_HELD_MAX: Final = 32
"""Checked chunks in memory that wait for the disk: 1 MiB, then nothing more is asked for."""

CHUNKS_AHEAD_IN_ORDER: Final = 24
"""How far ahead of the next chunk to write one is asked for where the back end takes them in order only.

With the questions open it stays below CHUNKS_HELD_MAX, or the missing one could never be asked for.
"""

CHECKPOINT_CHUNKS: Final = 16
"""Chunks after which they are made durable; what a power cut costs at most."""

CHECKPOINT_MS: Final = 1_000
"""And at the latest so long after the first of them came."""

ASKERS_SERVED_MAX: Final = 8
"""Askers of chunks served at a time: four chunks for each of them are 1 MiB that waits for the broker."""

ASKER_TURN_MS: Final = 30_000
"""How long an asker surely keeps its place when others wait."""

ASKER_IDLE_MS: Final = 10_000
"""After so long without a question its place is free."""

SERVED_FRAME_EVERY_MS: Final = 1_000
"""An asker that had all frames of a release gets one more each such time, so that losses do not end a fetch."""

CHUNK_READS_MAX: Final = 8
"""Reads of chunks that run for others: own writes must not wait long behind them."""

CHUNKS_CACHED_MAX: Final = 32
"""Chunks kept for the next asker: 1 MiB; a fleet fetches them in about the same order."""

REFUSALS_PER_TURN_MAX: Final = 64
"""Answers `no such release` and `busy` of one turn; each costs a signature."""

SERVED_PATHS_CHUNKS_MAX: Final = 65_536
"""Chunks of the largest release whose paths are served: its tree takes some 15 MB of memory."""
