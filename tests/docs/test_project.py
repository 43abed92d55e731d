"""What a project is expected to have: workflows that name what is there, one version everywhere, forms, a release."""

from __future__ import annotations

import configparser
import datetime
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from places import ROOT
from release import notes

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))


def read(path: str | Path) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def setup() -> configparser.ConfigParser:
    parsed = configparser.ConfigParser()
    parsed.read(ROOT / "setup.cfg", encoding="utf-8")
    return parsed


def locked(package: str) -> str:
    [version] = re.findall(
        rf"^{package}==([\w.]+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE
    )
    return version


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in read(workflow)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_names_what_is_there(file: Path) -> None:
    targets = set(re.findall(r"^([\w-]+)(?: [\w-]+)*:(?!=)", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert {"lint", "docs", "test"} <= targets
    workflow = read(file)
    assert workflow[True], "when it runs (YAML reads `on` as true)"
    assert workflow["permissions"], "no more than it needs"
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())
    for step in steps(file):
        assert ("uses" in step) != ("run" in step), step
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]), step
            continue
        for target in re.findall(r"\bmake ([a-z][\w-]+)", step["run"]):
            assert target in targets, target
        for script in re.findall(r"python (\S+\.py)", step["run"]):
            assert (ROOT / script).is_file(), script
        for package, version in re.findall(r"\b([\w-]+)==([\w.]+)", step["run"]):
            assert version == locked(package), package


def test_one_version_of_each_action() -> None:
    used = {step["uses"] for file in WORKFLOWS for step in steps(file) if "uses" in step}
    assert len(used) == len({action.split("@")[0] for action in used}), sorted(used)


def test_ci_runs_what_its_script_runs() -> None:
    [targets] = re.findall(r"for target in ([^;]+);", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert (
        targets.split() == read(".github/workflows/ci.yml")["jobs"]["check"]["strategy"]["matrix"]["target"]
    )


def test_each_python_is_one_that_is_supported() -> None:
    supported = re.findall(r"Python :: (3\.\d+)$", setup()["metadata"]["classifiers"], re.MULTILINE)
    for file in WORKFLOWS:
        for job in read(file)["jobs"].values():
            assert set(job.get("strategy", {}).get("matrix", {}).get("python", [])) <= set(supported)
            for step in job["steps"]:
                named = step.get("with", {}).get("python-version", supported[0])
                assert named in supported or "matrix.python" in named


def test_pre_commit_runs_the_ruff_of_the_lock() -> None:
    [repo] = read(".pre-commit-config.yaml")["repos"]
    assert repo["repo"].endswith("/ruff-pre-commit") and repo["rev"] == f"v{locked('ruff')}"
    assert [hook["id"] for hook in repo["hooks"]] == ["ruff-check", "ruff-format"]


def test_the_citation_has_what_its_format_asks_for() -> None:
    cited = read("CITATION.cff")
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software"
    assert all(
        isinstance(cited[key], str) and cited[key] for key in ("message", "title", "version", "abstract")
    )
    assert datetime.date.fromisoformat(cited["date-released"])
    assert cited["license"] == setup()["metadata"]["license"]
    assert cited["authors"] == [{"name": "the egost authors"}]
    assert "the egost authors" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    paper = cited["preferred-citation"]
    assert paper["type"] == "article" and paper["year"] == 2025
    assert all(person.keys() == {"family-names", "given-names"} for person in paper["authors"])
    bibtex = (ROOT / "README.md").read_text(encoding="utf-8")
    names = " and ".join(f"{p['family-names']}, {p['given-names']}" for p in paper["authors"])
    assert f"author={{{names}}}" in bibtex and f"title={{{paper['title']}}}" in bibtex
    assert paper["url"] in setup()["metadata"]["project_urls"]


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.name)
def test_an_issue_form_has_what_the_host_asks_for(file: Path) -> None:
    form = read(file)
    assert form["name"] and form["description"] and form["body"]
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in asked}) == len(asked) > 0
    for field in form["body"]:
        assert field["type"] in ("markdown", "textarea", "input", "dropdown", "checkboxes")
        assert field["attributes"]["value" if field["type"] == "markdown" else "label"]


def test_who_reports_a_fault_is_asked_for_the_machine() -> None:
    assert [file.name for file in FORMS] == ["bug.yml", "figure.yml", "wish.yml"]
    for form in ("bug.yml", "figure.yml"):
        [env] = [f for f in read(f".github/ISSUE_TEMPLATE/{form}")["body"] if f.get("id") == "env"]
        assert "`egost env`" in env["attributes"]["label"] and env["validations"]["required"]


def test_the_links_of_the_pull_request_template() -> None:
    text = (ROOT / ".github" / "pull_request_template.md").read_text(encoding="utf-8")
    assert all((ROOT / ".github" / path).is_file() for path in re.findall(r"\]\(([^)]+)\)", text))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The three files of a release that agree."""
    for name in ("setup.cfg", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    change(tmp_path / "setup.cfg", r"^version = .*$", "version = 1.2.3")
    change(tmp_path / "CITATION.cff", r"^version: .*$", "version: 1.2.3")
    change(tmp_path / "CITATION.cff", r"^date-released: .*$", 'date-released: "2027-01-31"')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\nWords.\n\n## [Unreleased]\n\n## [1.2.3] - 2027-01-31\n\n### Figures\n\n- One.\n\n"
        "## [1.2.2] - 2026-12-24\n\n- Older.\n",
        encoding="utf-8",
    )
    return tmp_path


def change(file: Path, old: str, new: str) -> None:
    text, times = re.subn(old, new, file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert times == 1, old
    file.write_text(text, encoding="utf-8")


def test_the_notes_of_a_release_are_its_changes(project: Path) -> None:
    assert notes("v1.2.3", project) == "### Figures\n\n- One."


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("setup.cfg", "^version = .*$", "version = 1.2.4", "the tag is v1.2.3, setup.cfg has version 1.2.4"),
        ("CITATION.cff", "^version: .*$", "version: 1.2.2", "CITATION.cff has version 1.2.2"),
        ("CITATION.cff", "^version: .*$\n", "", "CITATION.cff has version None"),
        (
            "CITATION.cff",
            "2027-01-31",
            "2027-01-30",
            "CITATION.cff says 2027-01-30, CHANGELOG.md says 2027-01-31",
        ),
        ("CHANGELOG.md", r"^## \[Unreleased\]\n\n", "", "must begin with an empty section"),
        ("CHANGELOG.md", r"^## \[Unreleased\]\n", "## [Unreleased]\n\n- New.\n", "move its changes"),
        ("CHANGELOG.md", r"^## \[1.2.3\] - 2027-01-31", "## [1.2.3]", r"must be '## [1.2.3] - YYYY-MM-DD'"),
        ("CHANGELOG.md", r"^## \[1.2.3\]", "## [1.3]", r"must be '## [1.2.3] - YYYY-MM-DD'"),
        ("CHANGELOG.md", r"(.|\n)+", "", "must begin with an empty section"),
    ],
)
def test_a_release_whose_files_do_not_agree_is_refused(
    project: Path, file: str, old: str, new: str, said: str
) -> None:
    change(project / file, old, new)
    with pytest.raises(ValueError, match=re.escape(said)):
        notes("v1.2.3", project)


def test_a_tag_without_its_letter_is_refused(project: Path) -> None:
    with pytest.raises(ValueError, match=r"tag v1\.2\.3"):
        notes("1.2.3", project)


def test_this_version_can_be_released_as_soon_as_nothing_is_unreleased(project: Path) -> None:
    for name in ("setup.cfg", "CITATION.cff", "CHANGELOG.md"):
        shutil.copy(ROOT / name, project)
    change(project / "CHANGELOG.md", r"^## \[Unreleased\]\n[\s\S]*?(?=^## )", "## [Unreleased]\n\n")
    assert "### " in notes(f"v{setup()['metadata']['version']}", project)
