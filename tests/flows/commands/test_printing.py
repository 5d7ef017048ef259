import io

from rich.console import Console

from flows.commands.printing import make_table


def test_names_from_outside_are_no_markup_in_a_table() -> None:
    name = "[red]mug[/] [bold :car: [/x]"
    table = make_table("item", title=name)
    table.add_row(name)
    printed = io.StringIO()
    Console(file=printed, width=80).print(table)
    assert printed.getvalue().count(name) == 2
