"""What may go wrong, case by case, with the tests that prove what happens then.

W: webhooks. O: the job's own token. C: what people ask for. S: the spec. A: agents, instances and
outputs. G: GitHub's faults. P: the cloud. R: crashes and storage. A case without a test says why; a test that is named here must exist.
"""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """One case: what happens, the tests (`file::test`), or why there is none yet."""

    what: str
    tests: tuple[str, ...] = ()
    open: str = ""


def of(what: str, *tests: str, open: str = "") -> Case:  # noqa: A002 - it reads well in the table
    return Case(what, tests, open)


DOOR = "unit/test_github_events.py::"
SIDE = "flow/test_github_side.py::"
ODD = "flow/test_github_odd_days.py::"
BAD = "flow/test_bad_days.py::"
HOSTILE = "doors/test_hostile_doors.py::"
SPILL = "flow/test_hostile_run.py::"
AGENTS = "doors/test_agent_door.py::"
OIDC = "unit/test_oidc.py::"
LIVES = "engine/test_lives.py::"
HISTORIES = "engine/test_histories.py::"
CLOUDY = "engine/test_cloud_bad_days.py::"
GCP = "contract/test_provider_gcp.py::"
BOOTS = "flow/test_boot_machines.py::"
CONTAINER = "flow/test_agent_container.py::"
PROCESS = "flow/test_agent_process.py::"
REPORT = "unit/test_report.py::"
ASKS = "flow/test_asks.py::"
LINES = "unit/runs/test_comment_lines.py::"
READER = "unit/runs/test_comment_reader.py::"
PULL = "unit/runs/test_pull.py::"
API = "unit/test_github_door.py::"
POLICY = "flow/test_policy.py::"
APPROVAL = "unit/runs/test_approval.py::"
STICKY = "unit/runs/test_sticky.py::"
RELEASE = "unit/test_release.py::"
STREAM = "unit/test_output_stream.py::"

CASES: dict[str, Case] = {
    # ── webhooks ────────────────────────────────────────────────────────────────────────────────
    "W1": of("signature missing, empty, wrong, cut, or of another body", DOOR + "test_what_is_not_a_signed_delivery_is_refused_and_not_kept", "unit/test_signature.py::test_anything_but_the_signature_of_these_bytes_is_refused"),
    "W2": of("a secret that is empty or can be guessed", "unit/test_signature.py::test_the_server_refuses_secrets_that_can_be_guessed", "doors/test_server_process.py::test_it_does_not_start_with_what_would_not_be_safe"),
    "W3": of("a signature header that is not ASCII, or 60 kB long", DOOR + "test_what_is_not_a_signed_delivery_is_refused_and_not_kept", DOOR + "test_w3_a_signature_of_60_kb_is_refused"),
    "W4": of("only the old SHA-1 signature", DOOR + "test_what_is_not_a_signed_delivery_is_refused_and_not_kept"),
    "W5": of("two signature headers", DOOR + "test_w5_a_header_that_comes_twice_is_refused"),
    "W6": of("the digest of JSON that was written anew", DOOR + "test_w6_the_raw_bytes_are_what_is_signed"),
    "W7": of("one delivery twice, or twenty times at once", DOOR + "test_w7_the_same_delivery_twenty_times_at_once_is_kept_once"),
    "W8": of("the same body under a new delivery id", SIDE + "test_the_same_push_under_two_delivery_ids_is_one_run", SIDE + "test_a_replayed_button_does_nothing_more"),
    "W9": of("the same body under another event name", "unit/test_intents.py::test_w9_a_signed_body_under_another_event_name_has_no_effect"),
    "W10": of("delivered again after our failure", DOOR + "test_w10_w22_a_delivery_that_could_not_be_stored_is_taken_when_it_comes_again"),
    "W11": of("news out of order", SIDE + "test_w11_a_stale_head_makes_no_run_and_the_newer_one_does", SIDE + "test_w11_a_closed_pull_request_makes_no_run", ODD + "test_w11_an_older_push_that_comes_after_a_newer_one_keeps_its_own_commit", ASKS + "test_w11_a_comment_that_overtakes_the_push_it_is_about_is_not_guessed_at", ASKS + "test_w11_an_older_push_that_comes_late_outdates_itself", PULL + "test_w11_an_older_head_never_replaces_a_newer_one"),
    "W12": of("bodies of 25 MB and more, without length, or never coming", DOOR + "test_w12_a_body_declared_too_large_is_refused_before_it_is_read", DOOR + "test_w12_a_body_of_unknown_length_is_cut_at_the_limit", DOOR + "test_w12_w13_a_body_that_never_comes_is_cut_and_others_are_served"),
    "W13": of("slow headers, slow bodies, idle connections", DOOR + "test_w12_w13_a_body_that_never_comes_is_cut_and_others_are_served", "doors/test_server_process.py::test_a_client_that_drips_headers_is_cut_off_while_others_are_served"),
    "W14": of("JSON that is deep, huge, or holds what databases do not take", DOOR + "test_w14_hard_json_is_taken_and_left_to_the_worker", "unit/test_intents.py::test_no_payload_makes_it_raise"),
    "W15": of("members missing, null, of another type; ghosts; deleted forks", "unit/test_intents.py::test_w15_any_member_may_be_missing_null_or_of_another_type", "unit/test_intents.py::test_a_deleted_fork_and_a_deleted_account_are_ordinary"),
    "W16": of("unknown events and actions", DOOR + "test_w16_an_unknown_event_is_taken", "unit/test_intents.py::test_what_asks_for_nothing_is_ignored_with_a_reason"),
    "W17": of("a repository that is not allowed", SIDE + "test_a_repository_that_is_not_allowed_makes_no_run_and_no_request"),
    "W18": of("gzip, forms, XML, multipart", DOOR + "test_what_is_not_a_signed_delivery_is_refused_and_not_kept"),
    "W19": of("a length that is told twice, or wrongly", DOOR + "test_w19_a_request_with_unclear_length_is_refused"),
    "W20": of("a burst of deliveries", DOOR + "test_w20_a_burst_of_signed_pings_is_answered", BAD + "test_w20_a_burst_of_deliveries_is_kept_and_answered_in_time"),
    "W21": of("the secret is changed", "unit/test_signature.py::test_both_secrets_are_good_while_one_replaces_the_other", "unit/test_signature.py::test_a_retired_secret_is_refused"),
    "W22": of("the database takes nothing", DOOR + "test_w10_w22_a_delivery_that_could_not_be_stored_is_taken_when_it_comes_again", BAD + "test_r9_a_full_disk_refuses_and_recovers_without_repair", SIDE + "test_deliveries_that_failed_are_asked_for_again_once"),
    "W23": of("three hours down", ODD + "test_w23_after_three_hours_down_nothing_is_lost_and_nothing_doubled", ODD + "test_w23_a_long_list_is_worked_off_in_steps_that_no_probe_takes_for_a_standstill"),
    "W24": of("the list of deliveries fails, or has several pages", SIDE + "test_a_sweep_that_fails_is_made_again", ODD + "test_w24_a_list_of_several_pages_that_breaks_in_the_middle_is_read_again"),
    "W25": of("renamed, transferred, deleted, uninstalled, suspended", SIDE + "test_a_renamed_repository_is_followed", SIDE + "test_w25_a_repository_that_is_gone_closes_its_publications_with_a_reason", SIDE + "test_an_uninstalled_app_ends_what_runs", ODD + "test_w25_whoever_takes_the_app_away_ends_what_runs", ODD + "test_w25_a_transferred_repository_is_followed_to_its_new_owner"),
    # ── the job's own token ─────────────────────────────────────────────────────────────────────
    "O1": of("another algorithm, or none", OIDC + "test_a_good_token_says_who_calls", OIDC + "test_a_token_that_is_not_exactly_right_is_refused"),
    "O2": of("another key, unknown or odd key ids", OIDC + "test_a_token_that_is_not_exactly_right_is_refused", OIDC + "test_a_new_key_works_after_one_cool_down_and_strangers_cause_no_flood"),
    "O3": of("keys and addresses in the token's head", OIDC + "test_a_url_in_a_token_is_never_fetched"),
    "O4": of("unknown critical headers", OIDC + "test_a_token_that_is_not_exactly_right_is_refused"),
    "O5": of("tokens made to cost much", OIDC + "test_a_token_that_is_not_exactly_right_is_refused"),
    "O6": of("another issuer, or nearly ours", OIDC + "test_a_token_that_is_not_exactly_right_is_refused"),
    "O7": of("another audience, or several", OIDC + "test_a_token_that_is_not_exactly_right_is_refused"),
    "O8": of("expired, not yet good, good for too long", OIDC + "test_a_token_that_is_not_exactly_right_is_refused", OIDC + "test_thirty_seconds_of_leeway_are_given"),
    "O9": of("one token twice, at two replicas at once", "stores/test_run_store.py::test_a_token_is_used_once", "stores/test_run_store.py::test_a_token_used_at_two_replicas_at_once_works_once", "doors/test_client_door.py::test_a_workflow_job_asks_with_its_own_token_once"),
    "O10": of("a repository that is not ours to serve, or another's run", OIDC + "test_a_repository_that_is_not_listed_may_not", OIDC + "test_a_run_of_another_repository_gets_the_same_text_as_an_unknown_one"),
    "O11": of("a name that somebody else registered again", OIDC + "test_a_name_registered_again_by_somebody_else_is_refused"),
    "O12": of("a renamed repository", OIDC + "test_a_renamed_repository_stays_allowed"),
    "O13": of("events that strangers can cause", OIDC + "test_events_that_strangers_can_cause_are_refused", SIDE + "test_a_fork_makes_no_run", OIDC + "test_a_dispatch_counts_from_the_default_branch_only"),
    "O14": of("another workflow, another repository's, another branch's", OIDC + "test_only_the_repositorys_own_workflow_at_its_own_ref_counts", OIDC + "test_a_dispatched_workflow_of_another_branch_is_refused"),
    "O15": of("a commit or ref that is missing, short, or like an option", OIDC + "test_a_token_that_is_not_exactly_right_is_refused", "unit/test_action_asked.py::test_a_dispatch_that_the_server_did_not_send_is_told"),
    "O16": of("the request says otherwise than the token", OIDC + "test_the_body_never_overrides_the_token", SIDE + "test_a_jobs_token_may_ask_for_its_own_commit_only", OIDC + "test_a_dispatch_may_bring_nothing_else", OIDC + "test_a_push_may_not_bring_the_image_of_a_run_that_a_comment_asked_for", "stores/test_run_store.py::test_o16_a_job_says_nothing_of_where_a_run_was_asked_for"),
    "O17": of("the issuer is slow, broken, or not itself", OIDC + "test_known_keys_outlive_any_trouble_of_the_issuer", OIDC + "test_anything_but_one_small_good_answer_is_trouble", OIDC + "test_a_slow_drip_is_cut"),
    "O18": of("keys of the wrong kind, too short, or doubled", OIDC + "test_keys_of_another_kind_are_never_used", OIDC + "test_a_short_key_is_never_used", OIDC + "test_two_keys_under_one_id_are_both_refused"),
    "O19": of("the issuer changes its key", OIDC + "test_a_new_key_works_after_one_cool_down_and_strangers_cause_no_flood"),
    "O20": of("a flood of unknown key ids", OIDC + "test_a_new_key_works_after_one_cool_down_and_strangers_cause_no_flood"),
    "O21": of("a self-hosted runner of a public repository", OIDC + "test_a_self_hosted_runner_counts_only_in_a_private_repository"),
    "O22": of("the run's token for another run, or too late", "doors/test_client_door.py::test_a_runs_token_reads_and_cancels_this_run_only", "doors/test_client_door.py::test_a_runs_token_that_has_expired_or_was_changed_is_refused"),
    # ── what people ask for ─────────────────────────────────────────────────────────────────────
    "C1": of("asked without the right", ASKS + "test_c1_only_who_has_the_right_is_served_and_others_are_told_once", ASKS + "test_c1_a_stranger_who_goes_on_asking_costs_one_request_a_comment", ASKS + "test_who_may_run_nothing_is_answered_so_often_an_hour_and_others_always", "unit/runs/test_rights.py::test_c1_who_may_by_default"),
    "C2": of("nobody can tell who may", ASKS + "test_c2_a_role_that_cannot_be_looked_up_runs_nothing_and_says_so", ASKS + "test_c2_a_policy_that_cannot_be_read_runs_nothing_and_says_so"),
    "C3": of("the right, or the name, is gone before the ask is handled", ASKS + "test_c3_a_right_that_was_taken_away_before_the_comment_is_handled_counts_no_more", ASKS + "test_c3_a_name_that_is_somebody_elses_by_now_gives_no_right"),
    "C4": of("the comment was edited or deleted", ASKS + "test_c4_a_comment_that_was_edited_or_deleted_since_is_ignored"),
    "C5": of("bots, we ourselves, and who quotes us", ASKS + "test_c5_bots_are_ignored_unless_the_policy_names_them", STICKY + "test_nothing_in_it_is_an_ask_a_mention_or_foreign_html"),
    "C6": of("in code, quotes, HTML, folded sections, in mid-line", LINES + "test_c6_c7_what_github_does_not_show_as_plain_text_is_ignored", LINES + "test_no_line_counts_that_github_does_not_show_as_text", ASKS + "test_c6_what_is_quoted_or_code_or_mid_line_costs_not_one_request"),
    "C7": of("signs that only look like ours", LINES + "test_c6_c7_what_github_does_not_show_as_plain_text_is_ignored", LINES + "test_no_line_counts_behind_any_signs", ASKS + "test_c7_a_slash_that_only_looks_like_one_costs_not_one_request"),
    "C8": of("200 asks, 65 kB", LINES + "test_c8_a_comment_of_65_kb_is_read_in_less_than_50_ms", READER + "test_c8_of_200_lines_ten_count_and_one_may_start_runs", ASKS + "test_c8_of_200_lines_one_starts_a_run_and_ten_are_answered"),
    "C9": of("overrides of what is the file's, or beyond its limits", "unit/test_overrides.py::test_c9_what_may_not_be_set_is_refused_by_its_key", READER + "test_c9_what_is_no_ask_is_told_with_what_to_write", ASKS + "test_c9_overrides_are_judged_as_the_file_is"),
    "C10": of("another repository's run, an ended one, none", ASKS + "test_c10_a_finished_an_unknown_and_anothers_run_are_all_no_such_run"),
    "C11": of("a push between reading and asking, or a commit that begins alike", PULL + "test_c11_a_commit_is_proven_only_if_it_was_the_head_before_the_comment", PULL + "test_c11_another_commit_with_the_same_first_digits_is_not_the_one_that_was_named", PULL + "test_c11_a_forks_commit_must_be_named", ASKS + "test_c11_a_push_after_the_comment_runs_nothing_and_asking_again_does", ASKS + "test_a_yes_is_for_what_waited_when_it_was_written_and_not_for_what_came_after", ASKS + "test_the_approve_button_of_a_plan_approves_nothing_that_the_plan_does_not_show"),
    "C12": of("a force-push while the run waits", "unit/runs/test_superseded.py::test_c12_a_superseded_run_keeps_its_commit", ASKS + "test_c12_a_newer_commit_ends_what_runs_and_switches_no_commit"),
    "C13": of("run and cancel in one second", ASKS + "test_c13_run_and_cancel_in_the_same_second_end_as_one_of_the_two_orders"),
    "C14": of("closed, locked, or no pull request", ASKS + "test_c14_what_is_closed_locked_or_no_pull_request_is_ignored"),
    "C15": of("buttons: without the right, of another run, unknown", ASKS + "test_c15_a_button_needs_the_right_of_its_verb", ASKS + "test_c15_a_check_run_of_another_run_or_an_unknown_button_does_nothing", SIDE + "test_only_who_may_write_can_run_again"),
    "C16": of("twenty clicks, and one on a run that goes on", ASKS + "test_c16_many_clicks_are_one", SIDE + "test_a_replayed_button_does_nothing_more"),
    "C17": of("two pull requests of one commit", ASKS + "test_c17_two_pull_requests_with_one_head_have_runs_of_their_own"),
    # ── the spec ────────────────────────────────────────────────────────────────────────────────
    "S1": of("hundreds of wrong specs", "unit/test_specfile.py::test_a_wrong_spec_has_exactly_the_fault_that_was_made", "unit/test_specfile.py::test_no_text_takes_long", HOSTILE + "test_s1_s2_a_wrong_spec_gets_the_same_verdict_at_every_door", HOSTILE + "test_s1_what_is_no_text_is_refused_as_such"),
    "S2": of("the same, by another door than the file", HOSTILE + "test_s1_s2_a_wrong_spec_gets_the_same_verdict_at_every_door", "unit/test_overrides.py::test_s2_an_override_is_judged_with_the_files_own_words"),
    "S3": of("a newer version of the spec", HOSTILE + "test_s3_a_newer_version_of_the_spec_is_named_as_what_it_is"),
    "S4": of("a pull request raises its own limits", POLICY + "test_the_file_of_the_default_branch_counts_and_is_asked_for_once", POLICY + "test_s4_what_a_push_has_changed_serves_no_more_while_github_is_away", APPROVAL + "test_amounts_are_lowered_to_their_lines_and_never_raised", APPROVAL + "test_any_other_commit_spec_override_or_image_voids_an_approval", "unit/runs/test_permission.py::test_what_the_policy_lowers_holds_and_is_told"),
    "S5": of("the spec is a link, a submodule, an LFS pointer, a folder, too large", SIDE + "test_a_spec_that_is_no_ordinary_file_is_said_clearly", SIDE + "test_a_spec_that_is_a_link_is_said_clearly", ODD + "test_s5_a_spec_that_is_a_submodule_is_said_clearly"),
    "S6": of("cynthus.yaml and cynthus.yml", SIDE + "test_a_spec_that_is_no_ordinary_file_is_said_clearly"),
    "S7": of("the spec changes after it was read", HOSTILE + "test_s7_the_run_keeps_the_exact_bytes", "stores/test_run_store.py::test_another_spec_text_for_the_same_run_is_refused"),
    "S8": of("a command that shells, templates and YAML would change", SPILL + "test_a8_s8_a_hostile_command_arrives_byte_for_byte_and_spills_nothing"),
    "S9": of("prices that are missing, change, or overflow", "unit/runs/test_decide.py::test_a_limit_stops_the_command_on_time", "unit/runs/test_decide.py::test_cost_never_decreases_and_is_rounded_up", open="only this machine is lent, for nothing: missing and changing prices come with the clouds"),
    # ── agents, instances, outputs ──────────────────────────────────────────────────────────────
    "A1": of("a token of another run, attempt or instance", AGENTS + "test_a_strangers_token_is_refused_and_changes_nothing", AGENTS + "test_a_token_speaks_for_its_own_attempt_alone", AGENTS + "test_a_wrong_secret_or_another_instances_secret_is_refused"),
    "A2": of("a token of an attempt that is over", AGENTS + "test_an_attempt_that_is_over_gets_410_at_every_door", CONTAINER + "test_an_attempt_that_is_over_ends_at_once"),
    "A3": of("heartbeats repeated or out of order", AGENTS + "test_a_repeated_or_older_heartbeat_changes_nothing", CONTAINER + "test_lost_answers_and_outages_change_nothing_of_what_is_told"),
    "A4": of("an agent's clock is wrong", AGENTS + "test_an_agents_clock_is_a_claim"),
    "A5": of("silence, and what comes late", LIVES + "test_an_instance_that_vanishes_is_noticed_within_45_seconds", LIVES + "test_a_lost_instance_is_replaced_only_once_it_is_gone", AGENTS + "test_an_attempt_that_is_over_gets_410_at_every_door"),
    "A6": of("success, then failure; success after a cancel", AGENTS + "test_the_first_exit_stays", HOSTILE + "test_a6_what_is_said_after_the_end_changes_nothing", LIVES + "test_a_cancel_ends_the_run_from_every_state"),
    "A7": of("a flood of output", SPILL + "test_a7_a_flood_of_output_leaves_the_server_small_and_a_mark_where_it_was_cut", STREAM + "test_a_line_of_500_mb_is_split_and_never_kept_in_memory", CONTAINER + "test_a_million_lines_harm_nobody"),
    "A8": of("secrets in whatever a run says, in any spelling", SPILL + "test_a8_s8_a_hostile_command_arrives_byte_for_byte_and_spills_nothing", AGENTS + "test_a_secret_is_hidden_a_second_time_in_every_spelling", STREAM + "test_a_secret_split_at_any_byte_is_hidden", "unit/test_masking.py::test_a_secret_is_hidden_in_every_spelling"),
    "A9": of("secrets that are short, huge, or of several lines", HOSTILE + "test_a9_a_secret_that_could_not_be_hidden_is_refused", HOSTILE + "test_a9_a_key_of_several_lines_is_taken_and_hidden_line_by_line"),
    "A10": of("workflow commands and Markdown in what is shown", REPORT + "test_hostile_text_neither_notifies_nor_hides_nor_commands", REPORT + "test_a_log_cannot_leave_its_fence", REPORT + "test_long_text_is_cut_from_its_middle_on_character_boundaries"),
    "A11": of("metrics that are no numbers, or too many", AGENTS + "test_numbers_that_are_none_and_names_without_end_are_dropped", "unit/test_workflow_commands.py::test_a_metric_that_is_no_finite_number_is_left_out_with_one_notice", "unit/test_workflow_commands.py::test_names_stay_on_one_line"),
    "A12": of("odd outputs: pipes, links, names, numbers, sizes", PROCESS + "test_odd_outputs_are_left_out_with_reasons", CONTAINER + "test_outputs_are_collected_as_they_are_and_nothing_else_is", CONTAINER + "test_more_files_than_the_limit_are_left_out_with_the_reason", HOSTILE + "test_a12_half_a_character_in_a_name_is_never_our_fault"),
    "A13": of("a full disk or a cut line while uploading; a changing file", HOSTILE + "test_a13_an_upload_into_a_full_disk_leaves_nothing_and_is_taken_once_there_is_room", "doors/test_blob_door.py::test_an_upload_that_breaks_off_leaves_nothing", "doors/test_blob_door.py::test_another_content_of_the_same_size_leaves_nothing", SIDE + "test_a_release_is_made_once_and_whole_whatever_breaks"),
    "A14": of("an agent asks for what is another's", HOSTILE + "test_a1_a14_an_upload_address_is_good_for_one_object_of_one_attempt", "doors/test_blob_door.py::test_an_address_is_good_for_one_method_and_a_while"),
    "A15": of("names of assets that collide, too many, too large; a release that is gone", RELEASE + "test_names_are_safe_and_never_collide", RELEASE + "test_more_files_than_a_release_takes_are_bundled", RELEASE + "test_a_file_over_the_limit_is_split_and_the_manifest_tells_how_to_join"),
    "A16": of("object names that lead elsewhere", AGENTS + "test_a_path_that_leads_elsewhere_is_refused", AGENTS + "test_an_odd_name_is_only_a_name", "doors/test_blob_door.py::test_only_keys_that_the_server_makes_become_paths"),
    "A17": of("addresses inside the house", "unit/test_specfile.py::test_a_wrong_spec_has_exactly_the_fault_that_was_made", OIDC + "test_anything_but_one_small_good_answer_is_trouble", open="data sources are checked in the spec, but not fetched yet: there is no download to attack"),
    "A18": of("archives among the data", open="data sources are not staged yet"),
    "A19": of("the run asks the metadata server", CONTAINER + "test_the_metadata_server_is_reached_from_another_network_and_never_from_a_run", CONTAINER + "test_the_container_is_trusted_with_nothing"),
    "A20": of("the run escapes its container", open="the machine itself is the boundary only on clouds, which are not lent from yet"),
    "A21": of("two agents for one instance", AGENTS + "test_another_agent_cannot_take_the_attempt_over", CONTAINER + "test_a_second_agent_in_the_same_folder_refuses", LIVES + "test_a_paused_thread_creates_nothing_for_an_attempt_that_was_given_up"),
    "A22": of("Slurm's own bad days", open="Slurm is not lent from yet"),
    "A23": of("a preemption notice", CLOUDY + "test_a23_a_notice_of_preemption_is_followed_by_another_attempt_elsewhere", BOOTS + "test_a_preempted_machine_reports_before_the_power_button_has_ended_it", "unit/runs/test_replacement.py::test_a_replacement_is_ordered_as_soon_as_the_preempted_command_has_stopped", "unit/runs/test_decide.py::test_a_preempted_instance_that_vanishes_is_named_so", "unit/runs/test_decide.py::test_a_preempted_command_is_tried_again"),
    # ── GitHub's faults ─────────────────────────────────────────────────────────────────────────
    "G1": of("401 on a token that should be good", API + "test_g1_a_refused_token_is_renewed_once_and_not_for_ever", SIDE + "test_a_token_that_ended_early_is_renewed_once"),
    "G2": of("403 and 429, with and without a hint", API + "test_g2_github_is_left_alone_as_long_as_it_wants", API + "test_g2_one_installations_pause_is_no_other_ones", SIDE + "test_githubs_limits_are_kept_to_the_letter", "unit/runs/test_github_pace.py::test_a_refusal_for_a_limit_pauses_everything"),
    "G3": of("404 on what was there", API + "test_g3_g4_a_no_is_a_no", SIDE + "test_w25_a_repository_that_is_gone_closes_its_publications_with_a_reason"),
    "G4": of("422 for what is too long or too much", API + "test_g3_g4_a_no_is_a_no", SIDE + "test_a_refusal_is_noted_and_ends_the_try", SIDE + "test_more_than_fifty_annotations_are_sent_in_batches", REPORT + "test_a_huge_run_stays_within_githubs_limits"),
    "G5": of("5xx, resets, HTML, halves of JSON", API + "test_g5_whatever_is_not_a_good_answer_can_be_asked_again", SIDE + "test_no_trouble_of_github_loses_news", SIDE + "test_a_delivery_that_never_succeeds_is_parked_where_it_can_be_seen"),
    "G6": of("the answer to a creation is lost", SIDE + "test_a_created_check_run_is_found_again_when_the_answer_was_lost", SIDE + "test_a_server_killed_between_create_and_save_makes_no_second_check_run", SIDE + "test_two_replicas_make_one_check_run", "flow/test_pull_comments.py::test_a_create_whose_answer_was_lost_is_found_again"),
    "G7": of("an older update comes after a newer one", SIDE + "test_a_late_write_of_a_slow_replica_is_put_right"),
    "G8": of("two hours away with runs going on", SIDE + "test_g8_after_a_long_outage_every_check_run_is_right", "flow/test_github_economy.py::test_a_thousand_live_runs_never_break_a_limit_and_an_outage_of_two_hours_loses_nothing"),
    "G9": of("a check run older than 14 days", "contract/test_github_rules.py::test_an_unfinished_run_is_stale_after_fourteen_days", "unit/runs/test_permission.py::test_a_run_that_nobody_approves_ends_after_a_week", open="CYNTHUS_MAX_DURATION is a day unless an operator sets it; beyond two weeks GitHub calls the check run stale until its end is told"),
    "G10": of("another repository answers under the old name", API + "test_g10_an_answer_about_another_repository_is_refused", API + "test_a_moved_repository_is_followed_on_the_same_host_only"),
    # ── the cloud ───────────────────────────────────────────────────────────────────────────────
    "P1": of("no capacity in a zone, a region, anywhere", CLOUDY + "test_p1_a_stockout_leads_to_the_next_zone_only_once_it_is_certain", CLOUDY + "test_p1_with_no_capacity_anywhere_the_run_waits_and_says_where_it_tried", GCP + "test_want_of_capacity_is_told_by_get_and_leaves_nothing", GCP + "test_a_stockout_with_details_says_where_to_go_and_the_next_zone_has_it"),
    "P2": of("a quota is used up", CLOUDY + "test_p2_a_quota_over_all_regions_ends_the_run_with_its_name", GCP + "test_a_quota_is_named_however_it_is_told", GCP + "test_offers_know_the_quotas_of_the_account"),
    "P3": of("429 and 503 on every verb", CLOUDY + "test_p3_a_verb_that_is_refused_for_a_while_is_repeated_under_the_same_name", GCP + "test_a_short_outage_of_reading_is_bridged"),
    "P4": of("an order's answer is lost", CLOUDY + "test_p4_an_order_whose_answer_is_lost_is_one_instance_at_most", CLOUDY + "test_p4_an_order_that_takes_effect_after_its_run_was_cancelled_leaks_nothing", HISTORIES + "test_every_history_keeps_the_promises"),
    "P5": of("an order is stuck, or fails and leaves something behind", CLOUDY + "test_p5_an_order_that_is_stuck_for_20_minutes_is_given_up_and_never_left", CLOUDY + "test_p5_a_failed_order_that_left_an_instance_is_cleared_and_repeated_elsewhere", CLOUDY + "test_p5_what_a_deletion_leaves_is_found_and_deleted"),
    "P6": of("not visible right after the order", CLOUDY + "test_p6_an_instance_that_no_answer_shows_yet_is_not_taken_as_gone", GCP + "test_what_no_list_shows_yet_is_not_gone"),
    "P7": of("an instance vanishes, is stopped, suspended, started again", CLOUDY + "test_p7_an_instance_that_stops_executing_is_noticed_and_replaced", CLOUDY + "test_p7_an_instance_that_somebody_starts_again_does_not_come_back_into_its_run", GCP + "test_a_suspended_instance_is_not_gone", "unit/runs/test_replacement.py::test_a_stopped_instance_costs_and_keeps_its_run_until_it_is_deleted"),
    "P8": of("preempted while it boots or uploads", CLOUDY + "test_p8_a_preemption_during_the_boot_is_told_as_one_and_replaced_elsewhere", CLOUDY + "test_p8_a_preemption_during_the_upload_repeats_the_run_without_its_outputs", GCP + "test_a_preemption_while_starting_is_one_and_its_stopped_remains_go"),
    "P9": of("a deletion is refused, or finds nothing", CLOUDY + "test_p9_a_deletion_that_is_refused_is_never_taken_as_done_and_is_told", CLOUDY + "test_p9_a_deletion_of_what_is_gone_already_is_done", GCP + "test_a_refused_delete_is_told_and_the_instance_stays"),
    "P10": of("the server's credentials are revoked", CLOUDY + "test_p10_without_credentials_nothing_is_taken_as_gone_and_all_ends_by_itself", GCP + "test_permission_lost_says_nothing_of_the_instance"),
    "P11": of("a replica's clock is wrong", "stores/test_run_store.py::test_postgres_leases_live_by_its_own_clock", "stores/test_run_store.py::test_a_lease_that_ran_out_frees_the_run_and_refuses_the_older_pass", open="limits of a run are kept by the replica's own clock; only leases are by the database's"),
    "P12": of("one page of a list fails", CLOUDY + "test_p12_a_sweep_does_nothing_on_a_list_that_is_not_whole", GCP + "test_a_list_of_many_pages_is_whole_or_none", LIVES + "test_a_partial_list_deletes_nothing"),
    "P13": of("yesterday's database, or an empty one", CLOUDY + "test_p13_with_yesterdays_database_a_fleet_is_reported_and_only_a_person_deletes_it", CLOUDY + "test_p13_with_an_empty_database_nothing_is_ever_deleted", "engine/test_sweep.py::test_a_database_restored_from_yesterday_deletes_no_fleet_bit_by_bit"),
    "P14": of("two control planes in one project", CLOUDY + "test_p14_of_two_control_planes_in_one_project_each_sweeps_only_its_own", GCP + "test_each_control_plane_sees_its_own_only", GCP + "test_a_name_that_another_has_is_never_adopted"),
    "P15": of("a user's label imitates ours", "unit/test_specfile.py::test_a_wrong_spec_has_exactly_the_fault_that_was_made", "unit/gcp/test_gcp_order.py::test_labels_tell_whose_it_is_and_a_users_cannot_imitate_ours"),
    "P16": of("no driver, a hanging boot, a full disk", CLOUDY + "test_p16_a_machine_that_never_starts_its_agent_is_given_back_at_the_boot_deadline", BOOTS + "test_a_driver_that_cannot_be_installed_is_the_reason_that_is_told", BOOTS + "test_a_disk_that_is_too_small_is_the_reason_that_is_told", BOOTS + "test_an_agent_image_that_cannot_be_pulled_is_told_on_the_serial_port"),
    "P17": of("no server is left", CLOUDY + "test_p17_when_no_server_is_left_every_instance_ends_by_itself", GCP + "test_every_instance_dies_at_its_own_limit_with_nobody_there"),
    # ── crashes and storage ─────────────────────────────────────────────────────────────────────
    "R1": of("kill -9 at every step", "flow/test_kill_at_any_moment.py::test_a_killed_program_costs_time_and_never_the_run", LIVES + "test_a_server_killed_between_observing_and_saving_loses_nothing"),
    "R2": of("kill -9 between the commit and the answer", "stores/test_database.py::test_a_write_is_on_disk_once_it_is_answered", DOOR + "test_w7_the_same_delivery_twenty_times_at_once_is_kept_once"),
    "R3": of("kill -9 between the order and its record", LIVES + "test_a_server_killed_between_saving_and_performing_loses_nothing", LIVES + "test_a_create_whose_answer_was_lost_makes_one_instance"),
    "R9": of("a full disk", BAD + "test_r9_a_full_disk_refuses_and_recovers_without_repair", BAD + "test_r9_a_run_that_fills_the_servers_disk_ends_and_gives_the_room_back", "stores/test_database.py::test_a_full_disk_is_an_error_and_needs_no_repair"),
    "R10": of("the power goes", "stores/test_database.py::test_sqlite_is_as_durable_as_we_promise"),
    "R11": of("SIGTERM in the middle of work", BAD + "test_r11_a_server_that_is_told_to_stop_leaves_its_runs_running", BAD + "test_r11_no_silence_of_others_keeps_a_server_from_stopping"),
    "R14": of("rows that nobody can read", "stores/test_run_store.py::test_an_unreadable_run_is_parked_and_the_others_go_on", BAD + "test_r14_a_damaged_run_is_parked_and_every_door_stays_open", ODD + "test_r14_a_damaged_run_ends_its_check_run_and_holds_up_no_other"),
}  # fmt: skip

EXPECTED = {
    *(f"W{n}" for n in range(1, 26)),
    *(f"O{n}" for n in range(1, 23)),
    *(f"C{n}" for n in range(1, 18)),
    *(f"S{n}" for n in range(1, 10)),
    *(f"A{n}" for n in range(1, 24)),
    *(f"G{n}" for n in range(1, 11)),
    *(f"P{n}" for n in range(1, 18)),
    *(f"R{n}" for n in (1, 2, 3, 9, 10, 11, 14)),
}


@functools.cache
def named_in(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def test_every_case_has_its_line() -> None:
    assert set(CASES) == EXPECTED


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_proved_by_tests_that_exist_or_says_why_not(name: str) -> None:
    case = CASES[name]
    assert case.what
    assert case.tests or case.open, "neither a test nor a reason"
    for node in case.tests:
        path, _, test = node.partition("::")
        assert test in named_in(path), f"{name}: there is no {node}"
