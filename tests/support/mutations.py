"""One broken line of the core each, and the name of a test that must notice (model.md, section 4).

A mutation replaces a piece of a module's source and runs the module again in its own namespace; every other module that
holds one of its functions gets the new one. The piece must occur exactly as often as said, so that the list cannot rot.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

ROOM = "swarm.consensus."


@dataclass(frozen=True, slots=True)
class Mutation:
    """`old` becomes `new` in `module`; `caught_by` = `file.test` of tests/consensus; `found` = also by exploration."""

    name: str
    module: str
    old: str
    new: str
    caught_by: str
    times: int = 1
    found: bool = False


MUTATIONS = (
    # ------------------------------------------------------------------------------ safety
    Mutation(
        "no SC demanded for skipped views",
        "notarize",
        "if view > state.final_view and (held is None or held.sc is None):",
        "if False:",
        "test_r3_notarize.test_r3_sc_for_every_skipped_view",
        found=True,
    ),
    Mutation(
        "SC only for the last skipped view",
        "notarize",
        "for view in range(header.parent_view + 1, state.cur):",
        "for view in range(max(header.parent_view + 1, state.cur - 1), state.cur):",
        "test_r3_notarize.test_r3_sc_for_every_skipped_view",
    ),
    Mutation(
        "SC only for the first skipped view",
        "notarize",
        "for view in range(header.parent_view + 1, state.cur):",
        "for view in range(header.parent_view + 1, min(header.parent_view + 2, state.cur)):",
        "test_r3_notarize.test_r3_sc_for_every_skipped_view",
    ),
    Mutation(
        "F after K",
        "finalize",
        "and not slots.own_k",
        "",
        "test_r5_finalize.test_r5_not_after_the_own_k",
        found=True,
    ),
    Mutation(
        "K after F",
        "skip",
        "return slots.own_f is None and not slots.own_k",
        "return not slots.own_k",
        "test_r4_skip.test_r4_never_after_the_own_f_not_even_when_its_vc_is_lost",
    ),
    Mutation(
        "two N in a view",
        "notarize",
        "return slots.own_n is None and not slots.own_k and not expired",
        "return not slots.own_k and not expired",
        "test_r3_notarize.test_r3_one_n_a_view_also_after_a_restart",
        found=True,
    ),
    Mutation(
        "N after K",
        "notarize",
        "return slots.own_n is None and not slots.own_k and not expired",
        "return slots.own_n is None",
        "test_r3_notarize.test_r3_not_after_the_own_k",
        found=True,
    ),
    Mutation(
        "q-1 for a VC",
        "tally",
        "if len(signers) < state.q:",
        "if len(signers) < state.q - (statement.kind == Kind.NOTARIZE):",
        "test_r6_certificates.test_r6_q_statements_make_a_certificate_and_fewer_do_not",
        found=True,
    ),
    Mutation(
        "q-1 for an SC",
        "tally",
        "if len(signers) < state.q:",
        "if len(signers) < state.q - (statement.kind == Kind.SKIP):",
        "test_r6_certificates.test_r6_q_statements_make_a_certificate_and_fewer_do_not",
        found=True,
    ),
    Mutation(
        "q-1 for an FC",
        "tally",
        "if len(signers) < state.q:",
        "if len(signers) < state.q - (statement.kind == Kind.FINALIZE):",
        "test_r6_certificates.test_r6_q_statements_make_an_fc_and_fewer_do_not",
    ),
    Mutation(
        "messages counted, not voters",
        "tally",
        "    held = kinds.get(voter)\n    if held is not None:\n        report(state, held, statement)\n        return\n    kinds[voter] = statement",
        "    kinds[1_000 + len(kinds)] = statement",
        "test_r6_certificates.test_r6_voters_are_counted_not_messages",
    ),
    Mutation(
        "a certificate ignores the digest",
        "tally",
        "if held.digest == statement.digest",
        "if True",
        "test_r6_certificates.test_r6_one_digest",
    ),
    Mutation(
        "a certificate ignores the view of K",
        "tally",
        "for voter, held in _slot_of(slots, statement.kind).items()",
        "for voter, held in [i for s in (state.views.values() if statement.kind == Kind.SKIP else [slots])"
        " for i in _slot_of(s, statement.kind).items()]",
        "test_r6_certificates.test_r6_one_view",
        found=True,
    ),
    Mutation(
        "parent VC not needed",
        "notarize",
        "if not state.is_notarized(header.parent_view, header.parent):",
        "if False:",
        "test_r3_notarize.test_r3_the_vc_of_the_parent_must_be_held",
    ),
    Mutation(
        "F on a proposal without VC",
        "finalize",
        "and slots.vc is not None\n        and not slots.own_k\n        and slots.own_f is None\n        and slots.vc.digest in state.headers\n        and state.chain_in_hand(slots.vc.digest)",
        "and not slots.own_k\n        and slots.own_f is None\n        and bool(setattr(slots, 'vc', slots.vc or slots.proposal and"
        " type('Fake', (), {'digest': slots.proposal_hash, 'number': slots.view, 'kind': 78, 'signatures': ()})) or slots.vc)",
        "test_r5_finalize.test_r5_the_vc_must_be_held",
    ),
    Mutation(
        "delivered on a VC",
        "tally",
        "    if certificate.kind == Kind.FINALIZE:\n        state.fcs[",
        "    if certificate.kind != Kind.SKIP:\n        state.fcs[",
        "test_r7_commit.test_r7_a_vc_delivers_nothing",
    ),
    Mutation(
        "K ahead of cur",
        "skip",
        "state.draft.wanted.append(Wanted(Kind.SKIP, state.config.epoch, state.cur, ZERO_DIGEST))",
        "state.draft.wanted.extend(Wanted(Kind.SKIP, state.config.epoch, v, ZERO_DIGEST) for v in (state.cur, state.cur + 1))",
        "test_r4_skip.test_r4_only_in_cur_and_never_ahead",
    ),
    Mutation(
        "F again after a restart",
        "tally",
        "            slots.own_f = statement.digest",
        "            slots.own_f = statement.digest and None",
        "test_r5_finalize.test_r5_once_a_view_also_after_a_restart",
        found=True,
    ),
    # ------------------------------------------------------------------------------ what must be durable
    Mutation(
        "VC not stored",
        "tally",
        '        state.note("cleared-by-skip", view)\n    state.draft',
        '        state.note("cleared-by-skip", view)\n        state.draft',
        "test_r5_finalize.test_r5_the_vc_is_stored_in_the_turn_of_the_f",
    ),
    Mutation(
        "bodies not stored with N",
        "notarize",
        "state.draft.keep_blocks.append(KeptBlock(current, header, bodies))",
        "pass",
        "test_r3_notarize.test_r3_n_is_a_promise_to_serve_the_bytes",
    ),
    Mutation(
        "own block not stored with P",
        "propose",
        "state.draft.keep_blocks.append(KeptBlock(digest, header, submissions))",
        "pass",
        "test_r2_propose.test_r2_the_block_is_stored_before_p_leaves",
    ),
    Mutation(
        "own statements not counted after a restart",
        "recover",
        "            on_statement(state, statement, own=True)",
        "            pass",
        "test_r10_recover.test_r10_own_statements_re_enter_the_own_tally",
        found=True,
    ),
    # ------------------------------------------------------------------------------ the rest of the rules
    Mutation(
        "no window",
        "state",
        "max(self.cur, self.final_view + 1) + VIEW_WINDOW",
        "max(self.cur, self.final_view + 1) + VIEW_WINDOW * 1_000",
        "test_r0_admit.test_r0_nothing_is_stored_above_the_window",
    ),
    Mutation(
        "second proposal used",
        "tally",
        "if second and not _is_certified(slots, digest):",
        "if False:",
        "test_r0_admit.test_r0_a_second_proposal_is_used_only_if_its_hash_is_certified",
    ),
    Mutation(
        "timers run from the entry, work or not",
        "frontier",
        "        state.armed_at_ms = state.now_ms",
        "        state.armed_at_ms = state.entered_at_ms",
        "test_r1_frontier.test_r1_timers_are_armed_when_work_appears",
    ),
    Mutation(
        "delta counted from cur only",
        "frontier",
        "exponent = max(0, view - 1 - state.final_view - GRACE_VIEWS)",
        "exponent = 0",
        "test_r1_frontier.test_r1_delta_grows_by_half_with_each_view_after_a_grace_of_two",
    ),
    Mutation(
        "delta is not measured",
        "frontier",
        "    delta = state.delta_base_ms\n",
        "    delta = state.config.delta_floor_ms\n",
        "test_directed.test_directed_empty_on_a_network_slower_than_delta",
    ),
    Mutation(
        "an FC is no VC",
        "state",
        "            return self.final_fc",
        "            return None",
        "test_r2_propose.test_r2_a_final_parent_is_proposed_on_with_its_fc",
    ),
    Mutation(
        "an empty block at once",
        "propose",
        "if wait is None or state.now_ms < wait or parent_hash == state.final_hash:",
        "if parent_hash == state.final_hash:",
        "test_directed.test_directed_empty",
    ),
    Mutation(
        "N after T_vote",
        "notarize",
        "return slots.own_n is None and not slots.own_k and not expired",
        "return slots.own_n is None and not slots.own_k",
        "test_r3_notarize.test_r3_not_after_t_vote",
    ),
    Mutation(
        "nobody is absent",
        "skip",
        "return len(entries) == state.n + 1 and entries[0] > state.heard[voter]",
        "return False",
        "test_r4_skip.test_r4_at_once_when_the_leader_is_absent",
    ),
    Mutation(
        "F without the bytes",
        "finalize",
        "        and state.chain_in_hand(slots.vc.digest)\n",
        "",
        "test_r5_finalize.test_r5_all_unfinalized_ancestors_must_be_in_hand",
    ),
    Mutation(
        "child delivered before its parent",
        "finalize",
        "            return path[::-1]",
        "            return path",
        "test_r7_commit.test_r7_an_fc_finalizes_all_ancestors_in_height_order",
    ),
    Mutation(
        "delivered bytes dropped that a block above needs",
        "finalize",
        "if h.view > header.view for",
        "if h.view < header.view for",
        "test_r7_commit.test_r7_a_submission_that_an_ancestor_delivered_keeps_its_bytes_for_a_block_above",
    ),
    Mutation(
        "a standstill repeats own submissions only",
        "disseminate",
        "for digest in state.pool.pending",
        "for digest in state.pool.own",
        "test_directed.test_directed_orphan",
    ),
    Mutation(
        "a standstill starts from the front each time",
        "disseminate",
        "start = state.standstill_cursor if state.standstill_cursor < len(items) else 0",
        "start = 0",
        "test_directed.test_directed_egress",
    ),
    Mutation(
        "certificates are not republished",
        "tally",
        "    state.republish[certificate.kind, certificate.number] = (due, certificate)",
        "    pass",
        "test_r8_disseminate.test_r8_a_certificate_that_i_formed_is_republished_within_half_a_delta",
    ),
    Mutation(
        "a heartbeat is asked from cur on",
        "fetch",
        "AskCertificates(view=state.final_view + 1)",
        "AskCertificates(view=state.cur)",
        "test_r9_fetch.test_r9_a_heartbeat_heals_who_has_every_vc_but_not_the_fc",
    ),
    Mutation(
        "every late vote is answered by everybody at once",
        "stragglers",
        "state.n * state.delta_base_ms // 8",
        "0",
        "test_r0_admit.test_r0_one_late_vote_is_not_answered_by_everybody",
    ),
    Mutation(
        "who has applied everything is answered all the same",
        "stragglers",
        "    if held is not None and held.due_ms is not None and held.view <= view:",
        "    if False:",
        "test_r0_admit.test_r0_no_answer_to_who_shows_that_it_has_what_is_final",
    ),
    Mutation(
        "who has moved on is answered all the same",
        "stragglers",
        "view > max(held.view, state.final_view):",
        "False:",
        "test_r0_admit.test_r0_no_answer_to_who_has_moved_on",
    ),
    Mutation(
        "a claim of one is asked about for ever",
        "claims",
        "        if doubt.asked < CLAIM_QUESTIONS_MAX:",
        "        if True:",
        "test_r9_fetch.test_r9_a_far_claim_of_fewer_than_r_plus_1_is_forgotten",
    ),
    Mutation(
        "a claim of r + 1 is forgotten too",
        "claims",
        ") > state.config.budget.r",
        ") > 99",
        "test_r9_fetch.test_r9_a_claim_of_r_plus_1_voters_is_asked_about_until_it_is_met",
    ),
    Mutation(
        "an answer does not clear the claimant",
        "claims",
        "        if what == about:",
        "        if False:",
        "test_r9_fetch.test_r9_useful_answers_keep_the_word_of_one_good",
    ),
    Mutation(
        "delivery is fetched for only with work",
        "fetch",
        "    if state.final_hash == state.delivered_hash:\n        return\n",
        "    if state.final_hash == state.delivered_hash or not state.work:\n        return\n",
        "test_directed.test_directed_idle_body",
    ),
    Mutation(
        "the slot of the pool holds also against a proposed block",
        "replica",
        "        if views:",
        "        if False:",
        "test_r9_fetch.test_r9_bytes_for_a_block_bypass_the_slot_of_the_pool",
    ),
    Mutation(
        "only the newest SCs count, the rest is not asked for",
        "notarize",
        '            return Judgement(Standing.PENDING, "skip certificate", missing_skips=missing)',
        '            return Judgement(Standing.PENDING, "skip certificate")',
        "test_r3_notarize.test_r3_what_is_missing_is_pending_and_asked_for_again",
    ),
    Mutation(
        "pending without a look at the window",
        "pool",
        "        if sequences.judge(submission.body, height + 1) is not Verdict.COUNTS:\n            return False\n",
        "",
        "test_directed.test_directed_eternal_pending",
    ),
    Mutation(
        "the bytes of a final block are work",
        "pool",
        "        if is_final or slot in",
        "        if slot in",
        "test_r11_quiesce.test_r11_the_bytes_of_a_final_block_are_none",
    ),
    Mutation(
        "a certificate for me alone is not spread",
        "tally",
        "        if certificate.kind != Kind.FINALIZE:",
        "        if False:",
        "test_r8_disseminate.test_r8_a_certificate_that_came_to_me_alone_is_spread",
    ),
    Mutation(
        "a bound on views counted from the finalized one",
        "tally",
        "view > max(state.cur, state.final_view) + UNFINALIZED_VIEWS_MAX",
        "view > state.final_view + UNFINALIZED_VIEWS_MAX",
        "test_r1_frontier.test_r1_an_outage_of_many_views_ends",
    ),
    Mutation(
        "a checkpoint of r attestations",
        "attest",
        "need = state.config.budget.r + 1",
        "need = state.config.budget.r",
        "test_r14_attest.test_r14_r_plus_1_matching_are_a_checkpoint",
    ),
    Mutation(
        "a checkpoint of different attestations",
        "attest",
        "        if statement is not None and statement.digest == digest:",
        "        if statement is not None:",
        "test_r14_attest.test_r14_another_digest_or_the_same_voter_is_no_checkpoint_but_an_alarm",
    ),
    Mutation(
        "a C-th height gives way to a newer one",
        "attest",
        "    if state.attesting.due:",
        "    if False:",
        "test_r14_attest.test_r14_every_cth_height_of_many_applied_in_one_turn",
    ),
    Mutation(
        "no alarm after the checkpoint",
        "tally",
        "        if differs(state, number, voter, digest) or awaits_attest(state, voter, number):",
        "        if awaits_attest(state, voter, number):",
        "test_r14_attest.test_r14_a_different_a_after_the_checkpoint_is_an_alarm_once",
    ),
)


def _modules() -> list[ModuleType]:
    """Return every module that may hold a function or a class of the core."""
    rooms = (ROOM, "tests.support.", "tests.consensus.")
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(rooms)]


@contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """Break the core inside of the `with` block; every namespace is put back afterwards."""
    importlib.import_module(ROOM + "replica")
    module = sys.modules[ROOM + mutation.module]
    source = inspect.getsource(module)
    found = source.count(mutation.old)
    assert found == mutation.times, f"{mutation.name}: the piece occurs {found} times in {mutation.module}"
    saved = {m.__name__: dict(m.__dict__) for m in _modules()}
    before = saved[module.__name__]
    try:
        exec(
            compile(source.replace(mutation.old, mutation.new), str(module.__file__), "exec"), module.__dict__
        )
        changed = {
            id(old): module.__dict__[name]
            for name, old in before.items()
            if not name.startswith("__") and getattr(old, "__module__", None) == module.__name__
        }
        for other in _modules():
            if other is not module:
                for name, value in list(other.__dict__.items()):
                    if id(value) in changed:
                        other.__dict__[name] = changed[id(value)]
        yield
    finally:
        for other in _modules():
            whole = saved.get(other.__name__)
            if whole is not None:
                other.__dict__.clear()
                other.__dict__.update(whole)
