import pytest
import yaml

from models import plugins
from models.params import Block
from tasks.commands.params import knobs
from tasks.params import Params, load_params
from tasks.workspace import template

PLUGINS = [(family, name) for family in plugins.FAMILIES for name in plugins.known(family)]


@pytest.mark.parametrize(("family", "name"), PLUGINS)
def test_plugin_loads_and_has_a_params_block(family, name):
    module = plugins.load(family, name)
    assert issubclass(module.Params, Block)
    assert module.__doc__
    if family != "sources":
        assert callable(module.create)


def test_every_knob_is_described():
    every = knobs()
    assert len({knob.name for knob in every}) == len(every) > 100
    assert [knob.name for knob in every if not knob.description] == []


def test_unknown_plugin_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown plug-in 'trelis' in teachers; there are: .*visual_hull"):
        plugins.load("teachers", "trelis")


def test_the_packaged_params_are_valid():
    load_params(template("params.yaml"))


def test_unknown_block_key_and_plugin_are_answered_with_what_exists():
    with pytest.raises(ValueError, match=r"unknown block 'teech'; there are: .*teach"):
        Params({"teech": {}})
    with pytest.raises(ValueError, match=r"unknown key views\.sise_px; there are: .*; did you mean size_px\?"):
        Params({"views": {"sise_px": 3}}).validate()
    with pytest.raises(ValueError, match=r"unknown plug-in 'vit' in encoders; there are: .*dct"):
        Params({"features": {"encoder": "vit"}}).validate()


def test_chosen_plugins_have_their_block_in_params_yaml():
    raw = yaml.safe_load(template("params.yaml").read_text())
    assert raw["teach"]["teacher"] in raw["teachers"]
    assert raw["train"]["student"] in raw["students"]
    assert raw["features"]["encoder"] in raw["encoders"]
    assert raw["matte"]["matte"] in raw["mattes"]
