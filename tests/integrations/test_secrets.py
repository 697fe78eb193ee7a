"""Secrets come from the environment, then a folder, then a program; nobody else's names reach the program."""

import sys

from backlog_worker.integrations.secrets import Secrets


def test_the_environment_goes_before_the_folder_and_the_folder_before_the_program(tmp_path, monkeypatch):
    (tmp_path / "FILE_ONLY").write_text("from a file\n")
    (tmp_path / "lower_case").write_text("lower\n")
    (tmp_path / "BOTH").write_text("file")
    monkeypatch.setenv("BOTH", "environment")
    program = tmp_path / "ask.py"
    program.write_text("import sys\nsys.exit(3) if sys.argv[1] == 'NOBODY' else print('asked for ' + sys.argv[1])\n")
    secrets = Secrets(tmp_path, f"{sys.executable} {program}")
    assert secrets("BOTH") == "environment"
    assert secrets("FILE_ONLY") == "from a file"
    assert secrets("LOWER_CASE") == "lower"
    assert secrets("OTHER") == "asked for OTHER"
    assert secrets("NOBODY") is None


def test_no_name_leads_out_of_the_folder_or_to_our_own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKLOG_DATABASE_URL", "postgresql://u:p@h/d")
    (tmp_path.parent / "outside").write_text("x")
    secrets = Secrets(tmp_path, "echo")
    assert [secrets(name) for name in ("../outside", "a b", "$(id)", "", "BACKLOG_DATABASE_URL")] == [None] * 5
    assert Secrets(tmp_path)("UNSET_EVERYWHERE") is None
    assert Secrets(tmp_path, "/no/such/program")("UNSET_EVERYWHERE") is None
