"""Draw the order's states as they are configured: `manage.py draw_states` prints a Mermaid diagram."""

from typing import Any

from django.core.management.base import BaseCommand

from orders.models import Order, Status


def state_diagram() -> str:
    """The workflows of ORDER_WORKFLOWS as a Mermaid state diagram; “(auto)” marks what happens by itself."""
    lines = ["stateDiagram-v2", "    direction LR", f"    [*] --> {Status.NEW}"]
    seen = set()
    for t in Order(status=Status.NEW).get_all_status_transitions():
        by_itself = " (auto)" if t.custom.get("auto") else ""
        line = f"    {t.source} --> {t.target}: {t.name}{by_itself}"
        if line not in seen:
            seen.add(line)
            lines.append(line)
    return "\n".join(lines)


class Command(BaseCommand):
    help = "Print the order's states and transitions, as configured, as a Mermaid diagram."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(state_diagram())
