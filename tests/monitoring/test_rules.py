"""Alert rules and the dashboard, read by Prometheus' own tool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.functions.stage import Stage

HERE = Path(__file__).parent
MONITORING = HERE.parents[1] / "knative" / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
FIGURE = re.compile(r"\brpa_\w+")

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is in Debian's package prometheus")


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(["promtool", *argv], input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expressions() -> list[str]:
    """All that the dashboard asks for, its variables filled in."""
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [expr.replace("$provider", ".*") for expr in asked]


@promtool
def test_alerts_fire_when_they_must_and_only_then(tmp_path: Path) -> None:
    """What rules_test.yaml says."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    run("check", "rules", str(tmp_path / "rules.yaml"))
    shutil.copy(HERE / "rules_test.yaml", tmp_path)
    run("test", "rules", str(tmp_path / "rules_test.yaml"))


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    """No rule is there that nobody has seen fire."""
    tested = (HERE / "rules_test.yaml").read_text()
    for group in RULES["groups"]:
        for rule in group["rules"]:
            assert f'"{rule["alert"]}"' in tested
            assert set(rule["annotations"]) == {"summary", "remedy"}


@promtool
def test_the_dashboard_asks_what_prometheus_understands(tmp_path: Path) -> None:
    """Each of its questions is a valid one."""
    rules = [{"record": f"asked:{n}", "expr": expr} for n, expr in enumerate(expressions())]
    (tmp_path / "asked.yaml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    run("check", "rules", "--lint=none", str(tmp_path / "asked.yaml"))


def test_the_dashboards_panels_do_not_overlap() -> None:
    """And each has a title and an id of its own."""
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    for key in ("id", "title"):
        assert len({panel[key] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


async def figures(stage: Stage) -> str:
    """The exposition after a job with a login code, a warm browser and a round."""
    order = await stage.until_running(provider="octotel")
    await stage.call("issue_totp", "POST", "/totp/octotel", token=order["token"])
    await stage.complete(order)
    await stage.submit(provider="evotel")
    await stage.deliver_all()
    await stage.submit(run_after="2099-01-01T00:00:00Z")
    await stage.tick()
    return (await stage.call("monitor", "GET", "/metrics")).text


async def test_what_is_asked_for_is_there(stage: Stage) -> None:
    """Every figure that a rule or a panel names is exposed."""
    exposed = set(FIGURE.findall(await figures(stage)))
    asked: list[Any] = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]] + expressions()
    named = {name for expr in asked for name in FIGURE.findall(expr)}
    assert len(named) > 10
    assert named - exposed == set()


@promtool
async def test_figures_are_named_as_prometheus_wishes(stage: Stage) -> None:
    """Its linter has nothing to say."""
    assert run("check", "metrics", stdin=await figures(stage)) == ""
