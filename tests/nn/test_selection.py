"""Selection against recompositing every candidate; costs; the empty candidate; skipped layers; chunks."""

import itertools

import pytest
import torch

from unscene.errors import InputError
from unscene.nn import selection
from unscene.nn.compositing import composite, occlusion_matrix
from unscene.nn.selection import exhaustive, greedy

PENALTY = 1e-3


def random_scene(seed, num_layers, candidates, background, channels=3, batch=3, size=(5, 4)):
    """Images of about half of the layers, with noise; masks with many exact zeros and ones."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(shape, dtype=torch.float64, generator=generator)

    masks = (3 * rand(batch, num_layers, candidates, *size) - 1).clamp(0, 1)
    colours = rand(batch, num_layers, candidates, channels, *size)
    occlusion = occlusion_matrix(6 * rand(batch, num_layers * (num_layers - 1) // 2) - 3, batch, num_layers)
    behind = rand(batch, channels, *size) if background else None
    shown = masks[:, :, 0] * (rand(batch, num_layers, 1, 1) > 0.5)
    image = composite(shown, colours[:, :, 0], occlusion, behind) + 0.1 * rand(batch, channels, *size)
    return image, masks, colours, occlusion, behind


def objective(choice, image, masks, colours, occlusion, background, empty, penalty):
    """Of one choice (B, L) per image: the mean squared error of its composite, and the penalties."""
    if empty:
        masks = torch.cat([masks, torch.zeros_like(masks[:, :, :1])], 2)
        colours = torch.cat([colours, torch.zeros_like(colours[:, :, :1])], 2)
    costs = []
    for b, ks in enumerate(choice.tolist()):
        layers = range(len(ks))
        behind = None if background is None else background[b : b + 1]
        made = composite(masks[b, layers, ks][None], colours[b, layers, ks][None], occlusion[b : b + 1], behind)
        full = sum(k != masks.shape[2] - 1 for k in ks) if empty else 0
        costs.append((image[b] - made[0]).square().mean() + penalty * full)
    return torch.stack(costs)


def naive_greedy(image, masks, colours, occlusion, background, *, empty, penalty, sweeps):
    """Every candidate composited with all layers; at first these are empty, even if that is no candidate."""
    B, L, K = masks.shape[:3]
    choice = torch.full((B, L), K)
    masks = torch.cat([masks, torch.zeros_like(masks[:, :, :1])], 2)
    colours = torch.cat([colours, torch.zeros_like(colours[:, :, :1])], 2)
    for _ in range(sweeps):
        for layer in range(L):
            costs = []
            for k in range(K + empty):
                choice[:, layer] = k
                fit = objective(choice, image, masks, colours, occlusion, background, False, 0.0)
                costs.append(fit + penalty * (k != K) * empty)
            choice[:, layer] = torch.stack(costs).argmin(0)
    return choice


def naive_exhaustive(image, masks, colours, occlusion, background, *, empty, penalty):
    choices = list(itertools.product(range(masks.shape[2] + empty), repeat=masks.shape[1]))
    scene = (image, masks, colours, occlusion, background, empty, penalty)
    costs = torch.stack([objective(torch.tensor(c).expand(len(image), -1), *scene) for c in choices])
    return torch.tensor(choices)[costs.argmin(0)]


@pytest.mark.parametrize("sweeps", [1, 2, 3])
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_greedy_equals_recompositing(sweeps, empty, background):
    found = []
    for seed, (layers, candidates, channels) in enumerate([(1, 3, 3), (2, 4, 1), (3, 1, 3), (3, 3, 3), (4, 2, 1)]):
        scene = random_scene(seed, layers, candidates, background, channels)
        options = {"empty": empty, "penalty": PENALTY, "sweeps": sweeps}
        choice, cost = greedy(*scene, **options)
        assert torch.equal(choice, naive_greedy(*scene, **options))
        torch.testing.assert_close(cost, objective(choice, *scene, empty, PENALTY), rtol=0, atol=1e-12)
        found += (choice == candidates).flatten().tolist()
    assert any(found) == empty and not all(found)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("background", [False, True])
def test_exhaustive_equals_compositing_all_choices(empty, background):
    for seed, (layers, candidates, channels) in enumerate([(1, 4, 3), (2, 3, 1), (3, 2, 3)]):
        scene = random_scene(seed, layers, candidates, background, channels, batch=12)
        choice, cost = exhaustive(*scene, empty=empty, penalty=PENALTY)
        assert torch.equal(choice, naive_exhaustive(*scene, empty=empty, penalty=PENALTY))
        torch.testing.assert_close(cost, objective(choice, *scene, empty, PENALTY), rtol=0, atol=1e-12)
        of_greedy = greedy(*scene, empty=empty, penalty=PENALTY, sweeps=1)[1]
        assert (cost <= of_greedy + 1e-12).all()


def test_a_choice_that_one_sweep_misses():
    """A white image: grey everywhere beats white on the left, until the other layer is white on the right."""
    left = torch.tensor([1.0, 1, 0, 0]).view(1, 4)
    masks = torch.stack([torch.stack([torch.ones(1, 4), left]), torch.stack([1 - left, torch.zeros(1, 4)])])[None]
    colours = torch.ones(1, 2, 2, 1, 1, 4)
    colours[0, 0, 0] = 0.6
    scene = (torch.ones(1, 1, 1, 4), masks, colours, occlusion_matrix(None, 1, 2))
    results = [greedy(*scene, empty=False, penalty=0.0, sweeps=n) for n in (1, 2)]
    results.append(exhaustive(*scene, empty=False, penalty=0.0))
    assert [choice.tolist() for choice, _ in results] == [[[0, 0]], [[1, 0]], [[1, 0]]]
    assert [cost.item() for _, cost in results] == pytest.approx([0.08, 0, 0])


@pytest.mark.parametrize("empty", [False, True])
def test_of_one_layer_greedy_is_exhaustive(empty):
    for seed in range(5):
        scene = random_scene(seed, 1, 6, background=True, batch=8)
        one = greedy(*scene, empty=empty, penalty=PENALTY, sweeps=2)
        all_choices = exhaustive(*scene, empty=empty, penalty=PENALTY)
        assert torch.equal(one[0], all_choices[0])
        torch.testing.assert_close(one[1], all_choices[1], rtol=0, atol=1e-14)


def test_no_update_raises_the_cost_where_layers_may_be_empty():
    """The first layers alone show the state after each update of the first sweep."""
    image, masks, colours, occlusion, background = random_scene(0, 5, 3, background=True, batch=20)
    options = {"empty": True, "penalty": PENALTY}
    costs = [(image - background).square().flatten(1).mean(1)]
    for n in range(1, 6):
        first = (image, masks[:, :n], colours[:, :n], occlusion[:, :n, :n], background)
        costs.append(greedy(*first, **options, sweeps=1)[1])
    costs += [greedy(image, masks, colours, occlusion, background, **options, sweeps=n)[1] for n in range(2, 6)]
    changes = torch.stack(costs).diff(dim=0)
    assert (changes <= 1e-12).all()
    assert (changes[:5] < -1e-4).any(1).all() and (changes[5] < -1e-6).any()


@pytest.mark.parametrize(("penalty", "index"), [(0.99 / 20, 0), (1.01 / 20, 1)])
def test_the_penalty_weighs_against_the_mean_squared_error(penalty, index):
    """One white pixel of 20 is worth a layer that costs less than 1 / 20."""
    image = torch.zeros(1, 1, 4, 5)
    image[..., 2, 3] = 1
    scene = (image, image[:, None], torch.ones(1, 1, 1, 1, 4, 5), torch.zeros(1, 1, 1))
    for choice, cost in (
        greedy(*scene, empty=True, penalty=penalty, sweeps=1),
        exhaustive(*scene, empty=True, penalty=penalty),
    ):
        assert choice.item() == index
        assert cost.item() == pytest.approx(min(penalty, 1 / 20))


def test_float32_chooses_the_same():
    scene = random_scene(3, 4, 4, background=True, size=(32, 32))
    options = {"empty": True, "penalty": PENALTY, "sweeps": 3}
    choice, cost = greedy(*scene, **options)
    choice_32, cost_32 = greedy(*(x.float() for x in scene), **options)
    assert torch.equal(choice, choice_32) and cost_32.dtype == torch.float32
    torch.testing.assert_close(cost_32.double(), cost, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("search", [greedy, exhaustive])
def test_autocast_and_bfloat16_inputs_are_reckoned_in_float32(search):
    rough = [x.bfloat16() for x in random_scene(4, 2, 3, background=True)]
    options = {"empty": True, "penalty": PENALTY} | ({"sweeps": 2} if search is greedy else {})
    expected = search(*(x.float() for x in rough), **options)
    with torch.autocast("cpu", torch.bfloat16):
        choice, cost = search(*rough, **options)
    assert torch.equal(choice, expected[0]) and cost.dtype == torch.float32
    torch.testing.assert_close(cost, expected[1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("search", [greedy, exhaustive])
def test_chunks_of_images_change_nothing_and_build_no_graph(search, monkeypatch):
    scene = [x.requires_grad_() for x in random_scene(5, 3, 3, background=True, batch=7)]
    options = {"empty": True, "penalty": PENALTY} | ({"sweeps": 3} if search is greedy else {})
    at_once = search(*scene, **options)
    for size in (1, 3):
        monkeypatch.setitem(selection.CHUNK, "cpu", size * scene[2][0, 0].numel())
        choice, cost = search(*scene, **options)
        assert torch.equal(choice, at_once[0]) and not cost.requires_grad
        torch.testing.assert_close(cost, at_once[1], rtol=0, atol=1e-14)


def test_a_layer_waits_until_another_changes(monkeypatch):
    scene = random_scene(6, 3, 4, background=True)
    expected = naive_greedy(*scene, empty=True, penalty=PENALTY, sweeps=6)
    visited, errors = [], selection._Layers.errors
    monkeypatch.setattr(selection._Layers, "errors", lambda *call: visited.append(call[1]) or errors(*call))
    choice, _ = greedy(*scene, empty=True, penalty=PENALTY, sweeps=6)
    assert torch.equal(choice, expected)
    assert 3 < len(visited) < 12
    visited.clear()
    greedy(*random_scene(6, 1, 4, background=True), empty=True, penalty=PENALTY, sweeps=6)
    assert visited == [0]


def test_no_sweep_is_refused():
    with pytest.raises(InputError, match="sweeps is 0; the greedy selection needs at least 1"):
        greedy(*random_scene(0, 2, 2, background=False), empty=True, penalty=PENALTY, sweeps=0)
