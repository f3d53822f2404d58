"""What the portals look like, and what they say about a circuit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jinja2
from starlette.responses import HTMLResponse

from demo.visits import Visit

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True
)
PRODUCTS = ("Fibre 50/25", "Fibre 100/50", "Fibre 200/100", "Fibre 1000/500")
TOWNS = ("Cape Town", "Durban", "Gqeberha", "Johannesburg", "Pretoria", "Stellenbosch")


@dataclass(frozen=True, slots=True)
class Operator:
    """How a portal presents itself."""

    name: str
    title: str
    colour: str


OPERATORS = {
    operator.name: operator
    for operator in (
        Operator("metrofiber", "Metrofiber", "#0f766e"),
        Operator("octotel", "Octotel", "#c2410c"),
        Operator("openserve", "Openserve", "#1d4ed8"),
        Operator("evotel", "Evotel", "#7e22ce"),
    )
}
ACTIONS = {"validation": "Validate the circuit", "cancellation": "Cancel the circuit"}


def page(name: str, visit: Visit, *, status: int = 200, **values: object) -> HTMLResponse:
    """The template of this name, dressed as the visit's operator."""
    now = datetime.now(UTC).strftime("%d %B %Y, %H:%M:%S UTC")
    operator = OPERATORS[visit.operator]
    template = TEMPLATES.get_template(f"{name}.html")
    html = template.render(operator=operator, visit=visit, now=now, actions=ACTIONS, **values)
    return HTMLResponse(html, status, {"cache-control": "no-store"})


def facts(circuit: str) -> dict[str, str]:
    """What the operator has on file about a circuit: made up, but always the same."""
    digest = hashlib.sha256(circuit.encode()).digest()
    return {
        "Product": PRODUCTS[digest[0] % len(PRODUCTS)],
        "Premises": f"{digest[1] + 1} Long Street, {TOWNS[digest[2] % len(TOWNS)]}",
        "Terminal (ONT)": f"ALCL{digest[3:7].hex().upper()}",
        "Signal": f"-{14 + digest[7] % 10}.{digest[8] % 10} dBm",
    }
