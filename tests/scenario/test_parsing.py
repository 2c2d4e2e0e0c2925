"""Reading scenarios: what is read, and what a mistake is told.

Rules of this file: a mistake is one error, with its line and column; nobody need guess.
"""

from __future__ import annotations

import pytest

from trioraft import ConfigError, Timing
from trioraft.scenario import PHRASES, Needs, ScenarioError, Who, parse
from trioraft.scenario.model import STEPS_MAX
from trioraft.scenario.playing import _HANDLERS

ONE_LINE = "3 nodes; at 1s disconnect leader; at 2s reconnect; expect one leader"


def complaint(text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        parse(text, "mine.scenario")
    return str(caught.value)


def test_lines_and_semicolons_are_the_same() -> None:
    apart = parse(ONE_LINE.replace("; ", "\n"))
    together = parse(ONE_LINE)
    assert [step.text for step in apart.steps] == [step.text for step in together.steps]
    assert [step.text for step in together.steps] == [
        *("at 1s", "disconnect leader", "at 2s", "reconnect", "expect one leader")
    ]


def test_a_comma_may_stand_behind_a_moment() -> None:
    with_one, without = (parse(f"when a leader is elected{c} heal") for c in (",", ""))
    assert [step.phrase for step in with_one.steps] == [step.phrase for step in without.steps]


def test_settings_are_what_holds_from_the_beginning() -> None:
    scenario = parse(
        "# what it shows,\n# in two lines\n5 nodes\nseed 7\nelection timeout 100ms to 1s\n"
        "heartbeat 20ms\npre-vote off\ncheck-quorum off\nfast-failover off\nwidening off\n"
        "network delay 2ms\nnetwork loss 2.5%\nheal\nnetwork loss 0%\n",
        "a/b/mine.scenario",
    )
    assert (scenario.name, scenario.about) == ("mine", "what it shows, in two lines")
    settings = scenario.settings
    assert (settings.nodes, settings.seed, settings.ids[-1]) == (5, 7, "4")
    assert (settings.delay_s, settings.loss) == ((0.002, 0.002), 0.025)
    assert settings.timing == Timing(
        (0.1, 1.0),
        0.02,
        fast_failover=False,
        pre_vote=False,
        check_quorum=False,
        widening_max=1,
    )
    assert [step.text for step in scenario.steps] == ["heal", "network loss 0%"]


def test_who_may_be_many() -> None:
    text = "call leader first; disconnect the leader, node 2, 1 and another follower and first"
    assert parse(text).steps[-1].values["who"] == (
        *(Who("leader"), Who("node", "2"), Who("node", "1"), Who("another follower")),
        Who("name", "first"),
    )


def test_a_hash_within_quotes_is_no_comment() -> None:
    (step,) = parse('put "k # ;" "nothing"   # this is one').steps
    assert (step.values["key"], step.values["value"]) == ("k # ;", "nothing")
    assert parse("put k nothing").steps[0].values["value"] is None


def test_what_is_repeated_stands_there_as_often() -> None:
    scenario = parse("repeat 2 times\nheal\nrepeat 3 times; after 1s; end\nend\nexpect one leader")
    assert [step.text for step in scenario.steps] == [
        *(["heal", *["after 1s"] * 3] * 2),
        "expect one leader",
    ]
    assert len(scenario.phrases) == 7


def test_it_knows_what_not_everybody_can_do() -> None:
    scenario = parse("heartbeat 20ms\nput x 1\nput y 2\ncut 0 from 1")
    assert {need: step.line for need, step in scenario.needs()} == {
        Needs.TIMING: 1,
        Needs.KV: 2,
        Needs.CUTS: 4,
    }


def test_slower_is_slower_in_everything_that_it_says() -> None:
    scenario = parse(
        "network delay 1ms\nheal\nnetwork delay 2ms\nafter 1s; expect one leader within 2s"
    )
    slow = scenario.slowed(10)
    assert slow.settings.timing.election_timeout_s == (1.5, 3.0)
    assert slow.settings.timing.heartbeat_interval_s == 0.5
    durations = [step.values.get("duration") for step in slow.steps]
    assert durations == [None, 0.02, 10.0, 20.0]
    assert slow.settings.delay_s == (0.01, 0.01)
    assert parse("heal").slowed(10).settings.delay_s == parse("heal").settings.delay_s


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        (
            "3 nodes\nwhen a leader is elected, disconect leader",
            "2:27",
            "Did you mean 'disconnect'?",
        ),
        ("disconnect leadr", "1:12", "Did you mean 'leader'?"),
        ("crash leader and a folower", "1:20", "expected follower. Did you mean 'follower'?"),
        ("disconnect a leader", "1:12", "'a' cannot stand here; expected who"),
        ("disconnect anoter follower", "1:12", "Did you mean 'another'?"),
        ("expect one leadr", "1:12", "expected leader. Did you mean 'leader'?"),
        ("expect no leader within 1s", "1:18", "expected anywhere, for or the end of the line"),
        ("after 5", "1:7", "'5' cannot stand here; expected a time, as 150ms or 2s"),
        ("network loss 200%", "1:14", "expected a share, as 10%"),
        ("put x", "1:6", "something is missing here; expected a value, or nothing"),
        ("disconnect node 7", "1:17", "there is no node 7; there are 0, 1, 2"),
        ("2 nodes\ndisconnect 2", "2:12", "there is no node 2; there are 0, 1"),
        ("crash first", "1:7", "'first' cannot stand here; expected who"),
        ("call leader it", "1:13", "'it' is a word of scenarios, and no name"),
        ("0 nodes", "1:1", "0 is out of range; give 1 to 9"),
        ("heal\n3 nodes", "2:1", "settings come first, before anything happens"),
        ("seed 1\nseed 2", "2:1", "this was set already, in line 1"),
        ("heartbeat 1s", "1:1", "followers would depose every healthy leader"),
        ("at 2s heal\nat 1s heal", "2:1", "1 s is before the last `at`, 2 s"),
        ("end", "1:1", "there is nothing to end: no `repeat` is open"),
        ("repeat 2 times\nheal", "1:1", "this `repeat` has no `end`"),
        ("repeat 101 times\nend", "1:1", "101 is out of range; give 1 to 100"),
        ("add node 2", "1:1", "there is a node 2 already; it can be restarted"),
        ("propose x\nput y 1", "2:1", "a cluster has either those or keys and values"),
        ('propose "x y', "1:9", 'this " has no second one on its line'),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_was_meant(
    text: str, place: str, said: str
) -> None:
    told = complaint(text)
    assert told.startswith(f"mine.scenario:{place}: ")
    assert said in told


def test_a_wrong_verb_is_told_all_verbs_and_no_setting_behind_a_moment() -> None:
    told = complaint("after 1s bogus")
    verbs = {phrase.pattern.split()[0] for phrase in PHRASES if phrase.kind == "action"}
    assert verbs <= {*told.replace(",", "").split()}
    assert "seed" not in told


def test_too_many_steps_are_refused() -> None:
    nested = "repeat 100 times\n" * 3 + "heal\n" + "end\n" * 3
    assert f"more than {STEPS_MAX} steps" in complaint(nested)


def test_an_error_is_a_mistake_of_the_callers() -> None:
    with pytest.raises(ConfigError):
        parse("bogus")


def test_the_player_knows_every_phrase() -> None:
    played = {phrase.pattern for phrase in PHRASES if phrase.kind not in ("setting", "block")}
    assert {*_HANDLERS} == played
