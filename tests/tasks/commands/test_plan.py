"""What plan and explain say."""

from tasks.commands.plan import differences


def recipe(teacher: str, **settings: int) -> dict:
    return {
        "params": {"teacher": teacher, "seed": 0},
        "plugins": {f"teachers.{teacher}": settings},
        "versions": {"teach": 1, f"teachers.{teacher}": 1},
    }


def test_every_setting_that_differs_is_named():
    assert differences(recipe("hull", resolution=64), recipe("hull", resolution=96)) == [
        "plugins.teachers.hull.resolution: 64 -> 96"
    ]


def test_what_an_exchanged_plug_in_was_set_to_says_nothing():
    assert differences(recipe("hull", resolution=64), recipe("imported", up=1)) == [
        'params.teacher: "hull" -> "imported"'
    ]


def test_a_recipe_that_is_not_known_was_made_elsewhere():
    assert differences(None, recipe("hull")) == ["made elsewhere, under other params or versions"]
