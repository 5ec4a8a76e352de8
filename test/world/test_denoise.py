import pytest
import torch

from mirage_ros.models.presets import preset
from mirage_ros.models.schedule import make_scheduler
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.world.denoise import Conditions, denoise, draw_noise, without_token_steps


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MirageTransformer.from_preset(preset("test")).eval().requires_grad_(False)


def conditions(model, frames=3, clean=1, fixed_cells=0, references=0, preceding=0, batch=1):
    generator = torch.Generator().manual_seed(1)

    def some(count):
        return torch.randn(batch, 6, count, 4, 6, generator=generator)

    known, fixed = some(frames), torch.zeros(batch, 6, frames, 4, 6, dtype=torch.bool)
    fixed[:, :, :clean] = True
    fixed[..., :fixed_cells] = True
    memory = torch.randn(batch, model.branch.in_channels, frames + preceding, 4, 6, generator=generator)
    context = model.embed_text(torch.zeros(batch, 1, 16))
    hidden = torch.ones(batch, 1, frames, 4, 6, dtype=torch.bool)
    return Conditions(some(references), some(preceding), memory, known, fixed, hidden, context, clean)


@pytest.mark.parametrize("solver", ["unipc", "euler"])
@pytest.mark.parametrize("steps", [1, 3])
def test_fixed_cells_come_out_as_they_went_in(model, solver, steps):
    from mirage_ros.models.schedule import ScheduleConfig

    given = conditions(model, fixed_cells=2, references=2, preceding=1)
    noise = draw_noise((1, 6, 3, 4, 6), 0, 0, torch.device("cpu"))
    with torch.no_grad():
        result = denoise(model, make_scheduler(ScheduleConfig(solver, steps, 5.0)), noise, given)
    assert torch.equal(result[given.fixed], given.known[given.fixed])
    assert result.isfinite().all()
    assert not torch.equal(result[~given.fixed], noise[~given.fixed])


def test_a_chunk_that_is_known_altogether_needs_no_step(model):
    given, steps = conditions(model, clean=3), []
    noise = draw_noise((1, 6, 3, 4, 6), 0, 0, torch.device("cpu"))
    scheduler = make_scheduler(preset("test").schedule)
    result = denoise(model, scheduler, noise, given, after_step=steps.append)
    assert torch.equal(result, given.known)
    assert steps == []


def test_stacked_chunks_equal_single_ones(model):
    parts = [conditions(model, preceding=1), conditions(model, preceding=1)]
    parts[1].known.mul_(-1)
    noise = draw_noise((6, 3, 4, 6), 3, 1, torch.device("cpu"))
    schedule = preset("test").schedule
    with torch.no_grad():
        both = denoise(model, make_scheduler(schedule), noise.expand(2, *noise.shape), Conditions.stacked(parts))
        single = [denoise(model, make_scheduler(schedule), noise[None], part) for part in parts]
    torch.testing.assert_close(both, torch.cat(single), rtol=1e-4, atol=1e-5)


def test_context_frames_get_timestep_zero(model, monkeypatch):
    seen = []
    original = MirageTransformer.forward

    def spy(self, latents, timesteps, *arguments, **options):
        seen.append((timesteps, options["references"]))
        return original(self, latents, timesteps, *arguments, **options)

    monkeypatch.setattr(MirageTransformer, "forward", spy)
    given = conditions(model, frames=3, clean=1, references=2, preceding=1)
    with torch.no_grad():
        denoise(
            model,
            make_scheduler(preset("test").schedule, 1),
            draw_noise((1, 6, 3, 4, 6), 0, 0, given.known.device),
            given,
        )
    ((timesteps, references),) = seen
    assert references == 2
    # [reference reference | clamped target target | preceding]
    assert (timesteps[0] > 0).tolist() == [False, False, False, True, True, False]


def test_guidance_of_one_and_the_empty_prompt_change_nothing(model):
    given = conditions(model)
    noise = draw_noise((1, 6, 3, 4, 6), 0, 0, torch.device("cpu"))
    schedule = preset("test").schedule
    with torch.no_grad():
        plain = denoise(model, make_scheduler(schedule), noise, given)
        guided = denoise(model, make_scheduler(schedule), noise, given, guidance=3.0, empty_context=given.context)
    torch.testing.assert_close(plain, guided, rtol=1e-3, atol=1e-4)


def test_noise_depends_on_seed_and_chunk_only():
    device = torch.device("cpu")
    first = draw_noise((2, 3), 7, 1, device)
    assert torch.equal(first, draw_noise((2, 3), 7, 1, device))
    assert not torch.equal(first, draw_noise((2, 3), 7, 2, device))
    assert not torch.equal(first, draw_noise((2, 3), 8, 1, device))


def test_steps_between_tokens_go_and_what_is_in_them_stays():
    slope = torch.arange(8.0).expand(1, 12, 8).clone()
    free = torch.ones(1, 12, 8, dtype=torch.bool)
    # A slope that goes on across a border is no step.
    assert torch.equal(without_token_steps(slope, free, 4), slope)
    tokens = slope.clone()
    tokens[..., 4:] += 4.0
    smooth = without_token_steps(tokens, free, 4)
    assert smooth.diff(dim=-1)[..., 3].allclose(torch.tensor(2.0))
    assert torch.equal(smooth[..., [0, 1, 6, 7]], tokens[..., [0, 1, 6, 7]])
    # Mean colours of the two sides move towards each other, and that of all stays.
    assert smooth.mean() == tokens.mean()
    # The same along the other axis, and in what may not be changed nothing is.
    turned = without_token_steps(tokens.transpose(-1, -2), free.transpose(-1, -2), 4)
    assert torch.equal(turned, smooth.transpose(-1, -2))
    free[..., 4:] = False
    assert torch.equal(without_token_steps(tokens, free, 4)[..., 4:], tokens[..., 4:])


def test_only_what_the_memory_does_not_show_is_smoothed():
    torch.manual_seed(0)
    model = MirageTransformer.from_preset(preset("default")).eval().requires_grad_(False)
    side = 4
    shape = (1, model.in_channels, 2, 2 * side, 2 * side)
    known = torch.zeros(shape)
    fixed = torch.zeros(shape, dtype=torch.bool)
    fixed[:, :, 0] = True
    hidden = torch.zeros(1, 1, *shape[2:], dtype=torch.bool)
    hidden[..., :side] = True
    memory = torch.randn(1, model.branch.in_channels, *shape[2:])
    nothing = known[:, :, :0]
    context = model.embed_text(torch.zeros(1, 1, model.backbone.config["text_dim"]))
    noise = draw_noise(shape[1:], 0, 0, known.device)[None]
    with torch.no_grad():
        results = [
            denoise(
                model,
                make_scheduler(preset("default").schedule),
                noise,
                Conditions(nothing, nothing, memory, known, fixed, where, context, 1),
            )
            for where in (hidden, hidden & False)
        ]
    changed = (results[0] != results[1]).any(dim=1)[0, 1]
    assert changed[:, side - 2 : side].any()
    assert not changed[:, side:].any()
