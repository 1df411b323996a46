"""Sweeps and reports in a notebook, and from the command line."""

import subprocess
import sys

from typer.testing import CliRunner

import harness
from harness import cli
from reports import load


def call(*arguments):
    return CliRunner().invoke(cli.app, ["report", *map(str, arguments)])


def test_harness_loads_a_sweep_as_reports_does(ordinary):
    assert harness.load(ordinary).trials.equals(load(ordinary).trials)


def test_importing_harness_imports_no_pandas():
    code = "import sys, harness; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_sweep_and_a_report_say_what_they_are_in_a_line(ordinary, report):
    sweep = repr(load(ordinary))
    assert "27 trials" in sweep
    assert "lejepa, vicreg" in sweep
    assert report.answer in repr(report)
    assert len(sweep) < 200


def test_a_notebook_shows_the_answer_and_hostile_names_as_text(report, hostile):
    assert report.answer in report._repr_html_()
    assert report.html.as_uri() in report._repr_html_()
    shown = hostile._repr_html_() + load(hostile.html.parent.parent)._repr_html_()
    assert "<script" not in shown
    assert "<img" not in shown
    assert "&lt;script&gt;" in shown


def test_a_report_counts_what_became_of_the_trials(report):
    assert report.states == {"trained": 24, "collapsed": 3}


def test_the_command_writes_where_it_is_told(ordinary, tmp_path):
    done = call(ordinary, "--out", tmp_path / "here")
    assert done.exit_code == 0
    assert {"index.html", "report.md", "report.tex"} <= {path.name for path in (tmp_path / "here").iterdir()}


def test_the_command_compares_two(ordinary, tmp_path):
    done = call(ordinary, ordinary, "--compare", "--out", tmp_path / "both")
    assert done.exit_code == 0
    assert "hold the same trials" in done.stdout
    assert (tmp_path / "both" / "index.html").is_file()


def test_watching_a_sweep_that_has_ended_builds_once_and_ends(ordinary, tmp_path):
    done = call(ordinary, "--watch", "--out", tmp_path / "watched")
    assert done.exit_code == 0
    assert done.stdout.count("index.html") == 2  # a line for the build, and where the report is


def test_what_makes_no_sense_is_refused_in_one_line(ordinary, tmp_path):
    for arguments in ([ordinary, ordinary], [ordinary, "--compare"], [ordinary, ordinary, "--compare", "--watch"],
                      [tmp_path], [tmp_path, "--watch"]):  # fmt: skip
        done = call(*arguments)
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
