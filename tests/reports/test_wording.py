import pytest

from reports import statistics as st
from reports import wording


@pytest.mark.parametrize(
    ("value", "shown"), [(71.26, "71.3"), (-0.04, "-0.04"), (0.0, "0.0"), (-0.00001, "0.0"), (-4.62, "-4.6")]
)
def test_percentages_have_one_decimal_and_bounds_beside_zero_keep_their_side(value, shown):
    assert wording.amount(value, "test/shot1") == shown


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("test/shot1", "1-shot test accuracy"),
        ("val/shot10", "10-shot validation accuracy"),
        ("val/linear", "validation linear-probe accuracy"),
        ("test/knn", "test k-NN accuracy"),
        ("train/loss", "train/loss"),
    ],
)
def test_metrics_are_said_in_words(metric, said):
    assert wording.metric_text(metric) == said


def test_an_interval_is_said_with_true_minus_signs_and_a_sign_where_it_is_a_difference():
    assert wording.with_interval(3.14, 0.2, 6.04, "test/shot1", sign=True) == "+3.1 [0.2, 6.0]"
    assert wording.with_interval(-3.14, -6.04, 0.2, "test/shot1", sign=True) == "−3.1 [−6.0, 0.2]"
    assert wording.with_interval(3.14, None, None, "test/shot1") == "3.1"


def test_names_lose_control_characters_and_keep_emoji():
    assert wording.name_text("a\nb\u202e") == "a�b�"
    assert wording.name_text("👩\u200d🚀") == "👩\u200d🚀"


def test_short_names_are_cut_for_axes_and_never_hidden_from_legends():
    assert wording.short_name("x" * 50, 10) == "x" * 9 + "…"
    assert not wording.short_name("_arm").startswith("_")


def test_how_two_stand_to_each_other_follows_from_the_verdict_and_the_side_of_its_difference():
    known = [st.DECIDED, st.LEANING, st.EQUIVALENT, st.UNDECIDED]
    assert [wording.relation(verdict, 2.0) for verdict in known] == [
        "ahead of", "probably ahead of", "practically equal to", "not told apart from"
    ]  # fmt: skip
    assert [wording.relation(verdict, -2.0) for verdict in known[:2]] == ["behind", "probably behind"]
    assert wording.relation(st.UNDECIDED, None) == "not comparable with"


def test_a_count_has_its_nouns_own_plural():
    assert wording.count(1, "study", "studies") == "1 study"
    assert wording.count(2, "study", "studies") == "2 studies"
    assert wording.count(1200, "trial") == "1,200 trials"


def test_a_difference_names_both_sides_whole_and_takes_two_lines_where_they_are_long():
    assert wording.difference_label("lejepa", "vicreg", "points") == "lejepa − vicreg (points)"
    long = "lejepa at the largest scale", "simclr at the largest scale"
    assert wording.difference_label(*long, "") == f"{long[0]} −\n{long[1]}"
    lines = wording.difference_label("a" * 90, "b" * 90, "points").split("\n")
    assert max(map(len, lines)) <= 46 + len(" (points)")
