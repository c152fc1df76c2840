"""Networks that give the cells of worms features: what they depend on, and what they do not."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from voxel_ext.errors import InvalidInputError
from voxel_ext.networks.blocks.cell_attention import CellAttentionBlock, RelativeAttention, wave_numbers
from voxel_ext.networks.groups import rotation_group
from voxel_ext.networks.nets.matching import MatchingNet, MultiLevelMatchingNet, normalize_positions
from voxel_ext.networks.nets.matching_factory import matching_network

SMALL = {
    "group": "C2:x",
    "features": (2, 3),
    "hidden": 7,
    "grid": 2,
    "dilated": False,
    "mlp_dropout": 0.0,
    "feature_mode": "oriented",
}


KINDS = ["both", "added", "cubes", "positions"]
"""What a network takes; both are joined side by side, or "added" before the attention layers."""


def network(inputs="both", **settings):
    """A small network whose parameters are nowhere at their initial constant."""
    torch.manual_seed(0)
    if inputs == "added":
        inputs, settings = "both", {"fusion": "attention", **settings}
    attention = {"out_features": 8, "attention_layers": 2, "attention_width": 24, "attention_heads": 2}
    net = matching_network(inputs, **{**attention, **SMALL, **settings})
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if name.endswith("running_var"):
            nn.init.uniform_(tensor, 0.5, 2)
        elif tensor.is_floating_point() and tensor.dim() < 2 and "waves" not in name and "frequencies" not in name:
            nn.init.normal_(tensor, float(name.endswith("norm.weight")), 0.3)
    return net.eval()


def worms(batch=2, cells=7, size=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    cubes = torch.randn(batch, cells, 1, size, size, size, generator=generator)
    positions = torch.randn(batch, cells, 3, generator=generator) * torch.tensor([16.0, 20.0, 390.0]) + 300
    return cubes, positions


def taken(net, cubes, positions):
    return cubes if net.takes_cubes else None, positions if net.takes_positions else None


def change(a, b):
    return ((a - b).norm() / b.norm()).item()


# ---- attention


def attention_by_hand(module, features, positions, valid):
    """Attention with turned queries and keys of one worm, in loops over cells and heads and pairs of features."""
    cells, width = features.shape
    size = width // module.heads
    query, key, value = module.project(features).split(width, -1)
    angles = torch.stack([torch.cat([p[a] * module.waves[a] for a in range(3)]) for p in positions])
    rows = []
    for i in range(cells):
        heads = []
        for head in range(module.heads):
            part = slice(head * size, (head + 1) * size)
            weights = []
            for j in range(cells):
                q, k = (torch.complex(*v[part].chunk(2)) for v in (query[i], key[j]))
                turned = q.conj() * k * torch.exp(1j * (angles[j] - angles[i]))
                weights.append(turned.real.sum() / size**0.5 if valid[j] else torch.tensor(-torch.inf).double())
            heads.append(torch.stack(weights).softmax(0) @ value[:, part])
        rows.append(torch.cat(heads))
    return module.merge(torch.stack(rows))


@pytest.fixture
def attention():
    torch.manual_seed(1)
    return RelativeAttention(24, 2).double()


def test_attention_agrees_with_loops_over_pairs_of_cells(attention):
    features, positions = torch.randn(2, 5, 24).double(), torch.randn(2, 5, 3).double()
    valid = torch.tensor([[True] * 5, [True, False, True, True, False]])
    found = attention(features, positions, valid)
    expected = [attention_by_hand(attention, *row) for row in zip(features, positions, valid, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-10, atol=1e-12)


def test_attention_depends_on_differences_of_positions_only(attention):
    features, positions = torch.randn(2, 6, 24).double(), torch.randn(2, 6, 3).double()
    moved = positions + torch.tensor([0.7, -3.0, 2.2]).double()
    assert change(attention(features, moved), attention(features, positions)) < 1e-12
    assert change(attention(features, positions * 1.1), attention(features, positions)) > 1e-3
    assert change(attention(features), attention(features, positions)) > 1e-3


def test_attention_at_one_place_is_attention_without_places(attention):
    features = torch.randn(1, 6, 24).double()
    same = torch.full((1, 6, 3), 1.3).double()
    assert change(attention(features, same), attention(features)) < 1e-12


def test_waves_go_from_the_longest_to_the_shortest():
    length = 2 * torch.pi / wave_numbers(4)
    torch.testing.assert_close(length[:, 0], torch.tensor([12.0, 12.0, 3.0]))
    torch.testing.assert_close(length[:, -1], torch.tensor([1.0, 1.0, 0.1]))
    ratio = length[:, 1:] / length[:, :-1]
    torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 3))


@pytest.mark.parametrize(("width", "heads"), [(25, 5), (24, 5), (20, 2)])
def test_widths_that_do_not_divide_are_refused(width, heads):
    with pytest.raises(InvalidInputError, match=f"attention_width={width} with attention_heads={heads}"):
        RelativeAttention(width, heads)


def test_a_worm_without_valid_cells_gives_finite_features():
    block = CellAttentionBlock(24, 2)
    found = block(torch.randn(1, 4, 24), torch.randn(1, 4, 3), torch.zeros(1, 4, dtype=torch.bool))
    assert torch.isfinite(found).all()


# ---- positions


def test_normalized_positions():
    positions = worms()[1]
    valid = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    positions[~valid] = torch.nan
    found = normalize_positions(positions, valid)
    assert (found[~valid] == 0).all()
    for row, there in zip(found, valid, strict=True):
        torch.testing.assert_close(row[there].mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(row[there].std(0, correction=0), torch.ones(3), atol=1e-4, rtol=0)


def test_one_cell_and_no_cell_have_finite_normalized_positions():
    valid = torch.tensor([[True, False], [False, False]])
    assert (normalize_positions(torch.full((2, 2, 3), 9.0), valid) == 0).all()


@pytest.mark.parametrize("inputs", ["both", "added", "positions"])
def test_features_do_not_depend_on_place_and_unit_but_on_the_roll(inputs):
    net = network(inputs)
    cubes, positions = taken(net, *worms())
    with torch.no_grad():
        features = net(cubes, positions)
        moved = net(cubes, positions * torch.tensor([2.0, 0.5, 3.0]) + 100)
        turned = net(cubes, positions * torch.tensor([-1.0, -1.0, 1.0]))
    assert change(moved, features) < 1e-3
    assert change(turned, features) > 1e-2


# ---- cells


@pytest.mark.parametrize("inputs", KINDS)
def test_cells_in_another_order_have_the_same_features(inputs):
    net = network(inputs)
    cubes, positions = taken(net, *worms())
    valid = torch.tensor([[True] * 7, [False, True, True, False, True, True, True]])
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    shuffled = (None if x is None else x[:, order] for x in (cubes, positions))
    with torch.no_grad():
        features, others = net(cubes, positions, valid), net(*shuffled, valid[:, order])
    assert change(others, features[:, order]) < 1e-5


@pytest.mark.parametrize("inputs", KINDS)
def test_missing_cells_have_no_influence(inputs):
    net = network(inputs)
    cubes, positions = taken(net, *worms())
    valid = torch.tensor([[True, False, True, True, False, True, True]] * 2)
    spoiled = [
        None if x is None else torch.where(valid.view(2, 7, *[1] * (x.dim() - 2)), x, 77.0) for x in (cubes, positions)
    ]
    fewer = [None if x is None else x[:, valid[0]] for x in (cubes, positions)]
    with torch.no_grad():
        features = net(cubes, positions, valid)[valid]
        assert change(net(*spoiled, valid)[valid], features) < 1e-6
        assert change(net(*fewer).flatten(0, 1), features) < 1e-5
        assert change(net(cubes, positions)[valid], features) > 1e-4


@pytest.mark.parametrize("inputs", KINDS)
def test_a_worm_without_batch_axis_is_a_batch_of_one(inputs):
    net = network(inputs)
    cubes, positions = taken(net, *worms(1))
    valid = torch.tensor([[True] * 6 + [False]])
    single = (None if x is None else x[0] for x in (cubes, positions, valid))
    with torch.no_grad():
        torch.testing.assert_close(net(*single), net(cubes, positions, valid)[0])


def test_the_worms_of_a_batch_do_not_see_each_other():
    net = network()
    cubes, positions = worms(3)
    with torch.no_grad():
        together = net(cubes, positions)
        apart = torch.cat([net(cubes[i : i + 1], positions[i : i + 1]) for i in range(3)])
    assert change(together, apart) < 1e-5


@pytest.mark.parametrize("inputs", KINDS)
@pytest.mark.parametrize("layers", [0, 2])
def test_normalized_features_have_a_mean_square_of_1(inputs, layers):
    net = network(inputs, attention_layers=layers)
    cubes, positions = taken(net, *worms())
    plain = copy.deepcopy(net)
    plain.normalize = False
    with torch.no_grad():
        features, raw = net(cubes, positions), plain(cubes, positions)
    assert features.shape == (2, 7, net.out_features) == (2, 7, 8)
    torch.testing.assert_close(features.square().mean(-1), torch.ones(2, 7))
    torch.testing.assert_close(features, raw / raw.square().mean(-1, keepdim=True).sqrt())


def test_without_attention_and_positions_the_features_are_the_encoders():
    net = network("cubes", attention_layers=0, normalize=False)
    cubes = worms()[0]
    with torch.no_grad():
        assert torch.equal(net(cubes), net.encoder(cubes.flatten(0, 1)).view(2, 7, 8))
    assert not [name for name, _ in net.named_parameters() if not name.startswith("encoder.") and _.numel()]


@pytest.mark.parametrize(("group", "layers"), [("S4", 0), ("S4", 1), ("C2:x", 1)])
def test_features_of_cubes_turned_by_every_element_are_unchanged(group, layers):
    net = network("added" if layers else "cubes", group=group, attention_layers=layers, features=(2, 2))
    cubes, positions = taken(net, *worms(1, 2))
    elements = rotation_group(group)
    with torch.no_grad():
        features = net(cubes, positions)
        for element in range(elements.order):
            assert change(net(elements.act(cubes, element), positions), features) < 1e-5
        assert change(net(cubes.transpose(-1, -2), positions), features) > 1e-3


def test_distances_of_features_side_by_side_are_weighted_sums_of_those_of_the_parts():
    net = network(normalize=False)
    with torch.no_grad():
        net.balance.fill_(0.4)
        both, seen, placed = net(*worms()), net(worms()[0]), net(None, worms()[1])
    weight = torch.sigmoid(torch.tensor(0.4))
    parts = seen / seen.norm(dim=-1, keepdim=True), placed / placed.norm(dim=-1, keepdim=True)
    expected = (1 - weight) * torch.cdist(parts[0], parts[0]) ** 2 + weight * torch.cdist(parts[1], parts[1]) ** 2
    torch.testing.assert_close(torch.cdist(both, both) ** 2, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both, seen + placed)


# ---- memory


@pytest.mark.parametrize("chunk_size", [1, 3, 0])
def test_chunks_do_not_change_features_in_evaluation(chunk_size):
    net, chunked = network(chunk_size=128), network(chunk_size=chunk_size)
    with torch.no_grad():
        assert change(chunked(*worms()), net(*worms())) < 1e-5


def gradients(net, *inputs):
    net.train()
    output = net(*inputs)
    sum((layer * torch.arange(layer.numel()).view_as(layer).cos()).sum() for layer in output).backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "settings", [{}, {"inputs": "added"}, {"inputs": "cubes", "attention_layers": 0, "feature_levels": [0]}]
)
def test_recomputed_activations_give_the_same_gradients(settings):
    plain = network(norm="instance", dropout=0.3, chunk_size=4, **settings)
    again = network(norm="instance", dropout=0.3, chunk_size=4, recompute=True, **settings)
    found = []
    for net in (plain, again):
        torch.manual_seed(3)
        found.append(gradients(net, *worms()))
    assert found[0].keys() == found[1].keys()
    assert any(name.startswith("encoder.trunk") for name in found[0])
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)


def test_recomputing_keeps_fewer_activations():
    kept = []
    for recompute in (False, True):
        net, sizes = network(norm="instance", chunk_size=4, recompute=recompute).train(), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            net(*worms())
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


# ---- inputs


@pytest.mark.parametrize("inputs", ["both", "added"])
def test_either_input_alone_serves_a_network_of_both(inputs):
    net = network(inputs)
    cubes, positions = worms()
    with torch.no_grad():
        both, seen, placed = net(cubes, positions), net(cubes), net(None, positions)
    assert both.shape == seen.shape == placed.shape
    assert min(change(a, b) for a, b in ((both, seen), (both, placed), (seen, placed))) > 1e-2


@pytest.mark.parametrize(
    ("probabilities", "kind"), [((1.0, 0.0), "placed"), ((0.0, 1.0), "seen"), ((0.0, 0.0), "both")]
)
@pytest.mark.parametrize("inputs", ["both", "added"])
def test_input_dropout_leaves_one_input_out_in_training(inputs, probabilities, kind):
    net = network(inputs, input_dropout=probabilities, norm="instance")
    cubes, positions = worms()
    with torch.no_grad():
        expected = {"both": net(cubes, positions), "seen": net(cubes), "placed": net(None, positions)}
        net.train()
        assert change(net(cubes, positions), expected[kind]) < 1e-6
        assert change(net(cubes), expected["seen"]) < 1e-6  # a single input is never left out
        net.eval()
        assert change(net(cubes, positions), expected["both"]) < 1e-6


def test_input_dropout_happens_as_often_as_said():
    net = network(input_dropout=(0.2, 0.5)).train()
    cubes, positions = worms()
    drawn = [net._drop(cubes, positions) for _ in range(1000)]
    assert sum(c is None for c, _ in drawn) == pytest.approx(200, abs=50)
    assert sum(p is None for _, p in drawn) == pytest.approx(500, abs=60)
    assert not any(c is None and p is None for c, p in drawn)


@pytest.mark.parametrize("inputs", KINDS)
def test_a_script_computes_the_same(inputs):
    net = network(inputs, group="C2:x", chunk_size=5)
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(net), stream)
    stream.seek(0)
    script = torch.jit.load(stream)
    valid = torch.tensor([[True] * 7, [True] * 5 + [False] * 2])
    cubes, positions = taken(net, *worms())
    cases = [(cubes, positions, None), (cubes, positions, valid)]
    cases += [(cubes, None, valid), (None, positions, None)] if inputs in ("both", "added") else []
    cases += [tuple(None if x is None else x[1] for x in (cubes, positions, valid))]
    with torch.no_grad():
        for case in cases:
            assert change(script(*case), net(*case)) < 1e-5


@pytest.mark.parametrize("inputs", ["both", "added"])
def test_a_trace_made_without_missing_cells_heeds_them(inputs):
    net = network(inputs)
    example = (*worms(), torch.ones(2, 7, dtype=torch.bool))
    valid = torch.tensor([[True] * 7, [True] * 5 + [False] * 2])
    with torch.no_grad():
        trace = torch.jit.trace(net, example, check_trace=False)
        assert change(trace(*worms(), valid)[valid], net(*worms(), valid)[valid]) < 1e-5


# ---- several levels


def levels(**settings):
    return network("cubes", attention_layers=0, feature_levels=[0, 1], **settings)


def test_features_of_several_levels():
    net = levels(chunk_size=4)
    assert isinstance(net, MultiLevelMatchingNet)
    cubes = worms()[0]
    with torch.no_grad():
        found, single = net(cubes, None, torch.ones(2, 7)), net(cubes[1])
        raw = net.encoder.level_features(cubes.flatten(0, 1))
    assert [tuple(level.shape[:2]) for level in found] == [(2, 7)] * 3
    for level, alone, plain in zip(found, single, raw, strict=True):
        torch.testing.assert_close(level.square().mean(-1), torch.ones(2, 7))
        torch.testing.assert_close(alone, level[1])
        assert torch.cosine_similarity(level.flatten(0, 1), plain).min() > 1 - 1e-5


def test_a_script_of_several_levels_computes_the_same():
    net = levels(normalize=False, chunk_size=5)
    script = torch.jit.script(net)
    with torch.no_grad():
        for cubes in (worms()[0], worms()[0][0]):
            for a, b in zip(script(cubes), net(cubes), strict=True):
                torch.testing.assert_close(a, b)


# ---- bad input


def test_inputs_that_do_not_fit_are_refused():
    net, (cubes, positions) = network(), worms()
    with pytest.raises(InvalidInputError, match="it takes: cubes positions"):
        net()
    with pytest.raises(InvalidInputError, match="it takes:  positions"):
        network("positions")(cubes)
    with pytest.raises(InvalidInputError, match="it takes: cubes"):
        network("cubes")(None, positions)
    with pytest.raises(InvalidInputError, match=r"\[2, 6, 3\] do not fit cubes"):
        net(cubes, positions[:, :6])
    with pytest.raises(InvalidInputError, match=r"positions of shape \[2, 7, 2\]"):
        net(None, positions[..., :2])
    with pytest.raises(InvalidInputError, match=r"valid of shape \[2, 6\]: expected \[2, 7\]"):
        net(cubes, positions, torch.ones(2, 6, dtype=torch.bool))
    with pytest.raises(InvalidInputError, match=r"expected \(B, N, C, S, S, S\)"):
        net(cubes[0, 0], None)
    with pytest.raises(InvalidInputError, match="it takes: cubes"):
        levels()(None, positions)
    with pytest.raises(InvalidInputError, match="cubes of shape"):
        levels()(cubes[0, 0])


class NoLength(nn.Module):
    pass


class Length(nn.Module):
    out_features = 3


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"encoder": None, "positions": False}, "an encoder of cubes, positions, or both"),
        ({"encoder": NoLength()}, "the encoder NoLength has no attribute out_features"),
        ({"encoder": Length(), "input_dropout": (0.6, 0.6)}, "sum is at most 1"),
        ({"encoder": Length(), "input_dropout": (0.6,)}, "two probabilities"),
        ({"encoder": None, "input_dropout": (0.5, 0.0)}, "only one"),
        ({"encoder": Length(), "positions": False, "input_dropout": (0.5, 0.0)}, "only one"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, match):
    with pytest.raises(InvalidInputError, match=match):
        MatchingNet(**settings)


def test_the_factory_refuses_what_does_not_go_together():
    with pytest.raises(InvalidInputError, match="Did you mean 'cubes'"):
        matching_network("cube")
    with pytest.raises(InvalidInputError, match="attention_layers=2"):
        network("cubes", feature_levels=[0])
    with pytest.raises(InvalidInputError, match="inputs='positions'"):
        network("positions", feature_levels=[0], attention_layers=0)


def test_the_factory_sets_what_it_is_given():
    net = network(input_dropout=(0.1, 0.2), normalize=False, chunk_size=9, recompute=True, attention_layers=3)
    assert (net.input_dropout, net.normalize, net.chunk_size, net.recompute) == ((0.1, 0.2), False, 9, True)
    assert len(net.attention) == 3
    assert network("positions", input_dropout=(0.1, 0.2)).input_dropout == (0, 0)
    multi = levels(chunk_size=9, recompute=True, normalize=False)
    assert (multi.chunk_size, multi.recompute, multi.normalize) == (9, True, False)
