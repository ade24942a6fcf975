"""Every point of docs/security.md is held by a test, which is named here."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "security.md"

HELD = {
    "No file is read by pickle": (
        "tests/test_layering.py::test_nothing_unpickles",
        "tests/test_npz.py::test_what_cannot_be_read_has_a_reason_in_one_line",
        "tests/replay/test_disk.py::test_no_pickle_is_read",
    ),
    "A YAML file holds numbers": (
        "tests/test_config.py::test_what_no_file_of_options_holds_is_one_line",
        "tests/command/test_trust.py::test_a_text_that_yaml_could_execute_is_text",
    ),
    "A preset imports nothing": (
        "tests/command/test_trust.py::test_agents_of_a_preset_are_not_imported",
    ),
    "`dreamer.load`, `planet.load`": (
        "tests/command/test_trust.py::test_loading_from_python_builds_no_environment",
    ),
    "A task of the form": (
        "tests/command/test_trust.py::test_eval_asks_for_the_task_that_a_file_names",
        "tests/command/test_trust.py::test_what_eval_asks_for_is_what_it_takes",
    ),
    "A run that this user began": (
        "tests/command/test_trust.py::test_a_run_that_was_begun_here_needs_no_word",
        "tests/command/test_trust.py::test_where_nothing_can_be_noted_the_word_is_asked_for",
    ),
    "The same holds for `train`": (
        "tests/command/test_trust.py::test_a_preset_of_a_file_asks_for_its_task",
        "tests/command/test_trust.py::test_a_preset_whose_task_was_repeated_trains",
        "tests/command/test_trust.py::test_presets_of_the_package_run_no_code_of_others",
    ),
    "It holds for the `collection.json`": (
        "tests/benchmarks/test_tdm_exchange.py::test_a_record_of_others_builds_no_environment",
    ),
    "The job list in a benchmark's folder": (
        "tests/benchmarks/test_jobs.py::test_jobs_that_only_the_list_names_are_not_started",
    ),
    "It listens on 127.0.0.1 alone": (
        "tests/watch/test_watch.py::test_it_listens_on_the_loopback_interface_alone",
        "tests/watch/test_watch.py::test_other_hosts_are_refused",
    ),
    "It serves the runs in the folders": (
        "tests/watch/test_watch.py::test_no_address_leads_to_another_file",
        "tests/watch/test_watch.py::test_links_that_lead_out_are_not_followed",
        "tests/watch/test_watch.py::test_what_became_a_link_meanwhile_is_not_opened",
    ),
    "It writes nothing, executes nothing": (
        "tests/watch/test_watch.py::test_the_page_shows_every_part_of_a_run_and_writes_nothing",
        "tests/watch/test_watch.py::test_nothing_can_be_asked_for_but_reading",
    ),
    "A file of arrays takes": (
        "tests/test_npz.py::test_what_cannot_be_read_has_a_reason_in_one_line",
        "tests/test_npz.py::test_any_damage_is_a_reason_or_arrays",
    ),
    "A compressed file of arrays": ("tests/test_npz.py::test_a_file_does_not_swell_without_bound",),
    "A log of another program": (
        "tests/replay/logs/test_records.py::test_a_length_beyond_the_file_takes_no_memory",
        "tests/replay/logs/test_d4rl.py::test_other_files",
    ),
    "A file of options may have": (
        "tests/test_config.py::test_what_no_file_of_options_holds_is_one_line",
        "tests/test_config.py::test_what_is_no_file_of_options_is_not_read",
    ),
    "Parameters must be finite": (
        "tests/test_export.py::test_parameters_are_finite",
        "tests/test_export.py::test_parameters_that_would_broadcast_are_refused",
        "tests/run/test_loading.py::test_parameters_of_another_shape_are_refused",
    ),
    "Episodes must have the keys": (
        "tests/replay/test_foreign.py::test_every_difference_is_named_with_its_remedy",
        "tests/replay/test_foreign.py::test_all_differences_are_said_at_once",
        "tests/replay/test_minari.py::test_what_the_spaces_do_not_say_is_refused",
    ),
    "Episodes must have been recorded": (
        "tests/run/test_offline.py::test_another_action_repeat_is_refused_naming_both",
        "tests/run/test_offline.py::test_data_that_do_not_say_their_action_repeat_are_said_to",
    ),
    "Numbers of a table of scores": (
        "tests/benchmarks/test_read_scores.py::test_mistakes_in_tables",
        "tests/benchmarks/test_read_scores.py::test_tables_are_read_as_pythons_own_module_reads_them",
    ),
    "A damaged record of a job": (
        "tests/benchmarks/test_jobs.py::test_a_damaged_record_is_an_empty_one_and_named",
        "tests/benchmarks/test_jobs.py::test_a_damaged_job_list_is_an_empty_one_and_named",
        "tests/benchmarks/test_jobs.py::test_a_damaged_checkpoint_stops_no_other_job",
        "tests/benchmarks/test_read_scores.py::test_damaged_lines_are_left_out_and_counted",
    ),
    "Whatever is refused": (
        "tests/test_export.py::test_a_crafted_export_is_one_line_with_its_file",
        "tests/command/test_mutations.py::test_few",
    ),
}
"""The beginning of a point, and the tests that would fail if it were not so."""


def points():
    """Every point of the page."""
    found = re.findall(r"^- (.+(?:\n  .+)*)", PAGE.read_text(), re.MULTILINE)
    return [" ".join(point.split()) for point in found]


def test_every_point_has_its_tests():
    assert len(points()) == len(HELD)
    for point in points():
        assert sum(point.startswith(begin) for begin in HELD) == 1, point


@pytest.mark.parametrize("name", sorted({name for names in HELD.values() for name in names}))
def test_the_tests_exist(name):
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    named = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert function in named
