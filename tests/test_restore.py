"""Photographs of any size and kind through a run: the command `restore`, tiles, files."""

import csv
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from skimage.data import astronaut

from ae_lab.core.errors import UserError
from ae_lab.core.randomness import generator
from ae_lab.data import Batch
from ae_lab.inference.loaded_run import load_model
from ae_lab.inference.photo_files import Photo, read_photo, write_photo
from ae_lab.inference.tiling import TiledModel, restore_tensor
from ae_lab.tracking.run import Run
from tests.building import build

TINY = ["model=unet", "depth=1", "latent=8", "model.encoder.width=4", "data.limit=64"]
TINY += ["model.encoder.blocks_per_stage=1", "model.encoder.unshuffle=2", "noise=gaussian"]
GRAY = [*TINY, "data=mnist5k", "noise.sigma=0.1"]
COLOUR = [*TINY, "data=photos64", "noise.sigma=0.1", "noise.clip=false"]
PHOTO = astronaut()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folders of a tiny gray run and of one in colour."""
    from hydra import compose, initialize_config_dir

    from ae_lab.core import configuration
    from ae_lab.training.job import train
    from tests.conftest import SMALL

    folder = tmp_path_factory.mktemp("runs")
    with initialize_config_dir(str(configuration.CONF), version_base="1.3"):
        return {
            name: train(
                compose("config", overrides=[f"paths.outputs={folder}", *SMALL, *words])
            ).path
            for name, words in (("gray", GRAY), ("colour", COLOUR))
        }


def random_unet(*overrides: str, body: str = "unet"):
    """A network that has not learnt, whose output depends on all it sees."""
    model = build(f"model={body}", "data.shape=[3,32,32]", "latent=8", "depth=2", *overrides).eval()
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if (parameter.ndim > 1 and not parameter.any()) or name.startswith("decoder.to_pixels.w"):
            torch.nn.init.kaiming_normal_(parameter)
    return model


@pytest.mark.parametrize(
    ("body", "overrides"),
    [
        ("unet", ["model.encoder.width=4", "model.encoder.blocks_per_stage=1"]),
        ("unet", ["model.encoder.width=4", "model.encoder.unshuffle=2", "depth=1"]),
        ("cnn_skip", ["hidden=[4,8]"]),
        ("cnn_unpool", ["hidden=[4,8]"]),
    ],
)
@pytest.mark.parametrize("size", [(181, 203), (96, 300)])
@pytest.mark.parametrize("self_ensemble", [False, True])
def test_tiles_give_what_the_whole_image_gives(body, overrides, size, self_ensemble):
    model = random_unet(*overrides, body=body)
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    whole, tiled = (TiledModel(model, side, self_ensemble) for side in (10_000, 112))
    assert len(whole.plan(*size)) == 1
    assert len(tiled.plan(*size)) > 1
    expected = restore_tensor(whole, image)
    assert expected.std() > 0.01
    torch.testing.assert_close(restore_tensor(tiled, image), expected, atol=1e-5, rtol=0)


def test_a_side_is_cut_into_tiles_as_the_image_is():
    model = random_unet("model.side=true", "model.encoder.width=4", "noise=mask")
    image, mask = torch.rand(1, 3, 150, 150), (torch.rand(1, 1, 150, 150) < 0.3).float()
    expected = restore_tensor(TiledModel(model, 1000), image, mask)
    torch.testing.assert_close(restore_tensor(TiledModel(model, 144), image, mask), expected)
    assert not torch.allclose(restore_tensor(TiledModel(model, 1000), image), expected)


def test_a_self_ensemble_is_the_mean_over_the_image_turned_and_mirrored():
    model = random_unet("model.side=true", "model.encoder.width=4", "noise=mask")
    image, mask = torch.rand(1, 3, 48, 72), (torch.rand(1, 1, 48, 72) < 0.3).float()
    one, eight = TiledModel(model), TiledModel(model, self_ensemble=True)
    passes = []
    for mirror in (lambda x: x, lambda x: x.flip(2)):
        for quarters in range(4):
            turned, told = (mirror(x[0]).rot90(quarters, (1, 2)) for x in (image, mask))
            restored = one.reconstruct(turned[None], told[None])[0].rot90(-quarters, (1, 2))
            passes.append(mirror(restored))
    assert not torch.allclose(passes[0], passes[1], atol=1e-3)
    mean = torch.stack(passes).mean(0, keepdim=True)
    torch.testing.assert_close(eight.reconstruct(image, mask), mean)


def test_what_a_network_sees_is_measured():
    """From the last layer back: three convolutions at stride 2 see 6 pixels around, 8 in whole
    places of stride 4; there two more see 16; three at stride 2 see 22, 24 in whole places."""
    model = random_unet(
        "model.encoder.width=4",
        "model.encoder.blocks_per_stage=1",
        "depth=1",
        "model.encoder.unshuffle=2",
    )
    assert TiledModel(model).radius == 24
    looking_everywhere = random_unet("model.encoder.attention=true")
    assert TiledModel(looking_everywhere).radius is None
    assert len(TiledModel(looking_everywhere, 64).plan(500, 500)) == 1


def test_a_tile_too_small_for_the_network_is_refused():
    with pytest.raises(UserError, match=r"tile=40 is too small .* give at least"):
        TiledModel(random_unet(), 40).plan(500, 500)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def restore(command, run, *words):
    done = command("restore", f"run={run}", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_photograph_is_restored_and_scored(trained, command, tmp_path):
    save(tmp_path / "photo.png", PHOTO[:200, :311])
    printed = restore(
        command, trained["colour"], "input=photo.png", "output=out.png", "corrupt=true"
    )
    assert Image.open(tmp_path / "out.png").size == (311, 200)
    assert "311×200, PSNR 20." in printed
    again = restore(
        command, trained["colour"], "input=photo.png", "output=b.png", "corrupt=true", "tile=128"
    )
    assert again.partition(":")[2] == printed.partition(":")[2]
    one, other = (np.asarray(Image.open(tmp_path / name), int) for name in ("out.png", "b.png"))
    assert np.abs(one - other).max() <= 1


def test_colour_by_a_gray_model_and_gray_by_one_of_colour(trained, command, tmp_path):
    save(tmp_path / "colour.png", PHOTO[:60, :37])
    save(tmp_path / "gray.png", PHOTO[:37, :100, 0])
    assert "each colour by a gray model" in restore(
        command, trained["gray"], "input=colour.png", "output=a.png"
    )
    assert Image.open(tmp_path / "a.png").mode == "RGB"
    printed = restore(command, trained["colour"], "input=gray.png", "output=b.png")
    assert "gray by a model of colour" in printed
    assert (Image.open(tmp_path / "b.png").mode, Image.open(tmp_path / "b.png").size) == (
        "L",
        (100, 37),
    )


def write_png16(path, pixels, colour_type):
    """A PNG of 16 bits a channel, by hand: no filter."""
    height, width, _ = pixels.shape

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (3, 2), (4, 6)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_and_transparency_are_kept(channels, colour_type, suffix, tmp_path):
    pytest.importorskip("imagecodecs", reason="pip install 'ae_lab[photos]'")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 65536, (20, 31, channels)).astype(np.uint16)
    write_png16(tmp_path / "a.png", pixels, colour_type)
    photo = read_photo(tmp_path / "a.png")
    parts = [photo.pixels] + ([photo.alpha] if channels == 4 else [])
    assert np.array_equal(np.concatenate(parts, 2), pixels)
    write_photo(photo, tmp_path / f"b.{suffix}")
    again = read_photo(tmp_path / f"b.{suffix}")
    assert np.array_equal(again.pixels, photo.pixels)
    assert (again.alpha is None) == (channels != 4)
    if channels == 4:
        assert np.array_equal(again.alpha, photo.alpha)
    with pytest.raises(UserError, match="cannot hold 16 bits"):
        write_photo(photo, tmp_path / "c.jpg")


def test_metadata_is_kept_and_the_image_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    save(tmp_path / "a.jpg", PHOTO[:40, :60], exif=exif, icc_profile=profile, dpi=(300, 300))
    photo = read_photo(tmp_path / "a.jpg")
    assert photo.pixels.shape == (60, 40, 3)
    for name in ("b.jpg", "b.png", "b.webp", "b.tif"):
        write_photo(photo, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            kept = image.getexif()
            assert image.size == (40, 60)
            assert kept[0x010F] == "A camera"
            assert kept.get(0x0112, 1) == 1
            assert image.info["icc_profile"] == profile


def test_a_jpeg_with_a_preview_behind_it_is_a_photo(tmp_path):
    both = Image.fromarray(PHOTO[:40, :60]), Image.fromarray(PHOTO[:8, :12])
    both[0].save(tmp_path / "a.mpo", save_all=True, append_images=[both[1]])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    assert Image.open(tmp_path / "a.jpg").n_frames == 2
    assert read_photo(tmp_path / "a.jpg").pixels.shape == (40, 60, 3)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_deep_files_keep_what_they_say(name, tmp_path):
    pytest.importorskip("imagecodecs", reason="pip install 'ae_lab[photos]'")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    pixels = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3)
    metadata = {"icc_profile": profile, "exif": exif.tobytes(), "dpi": (300, 150)}
    write_photo(Photo(pixels, None, metadata), tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.info["icc_profile"] == profile
        assert image.getexif()[0x010F] == "A camera"
        assert image.info["dpi"] == pytest.approx((300, 150), rel=1e-4)
    assert np.array_equal(read_photo(tmp_path / name).pixels, pixels)


def test_deep_tiff_files_that_lie_on_their_side_are_turned(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="pip install 'ae_lab[photos]'")
    pixels = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3)
    tags = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", metadata=None, extratags=tags)
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, np.rot90(pixels, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_is_turned_as_pillow_turns_it(orientation, tmp_path):
    from ae_lab.inference.photo_files import _turn

    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = PHOTO[:8, :12]
    save(tmp_path / "a.png", pixels, exif=exif)
    assert np.array_equal(_turn(pixels, orientation), read_photo(tmp_path / "a.png").pixels)


def folder_of_oddities(folder):
    folder.mkdir()
    save(folder / "gray.png", PHOTO[:37, :100, 0])
    save(folder / "one.png", PHOTO[:1, :1])
    save(folder / "wide.png", PHOTO[100:120].repeat(20, 1)[:, :5000])
    Image.fromarray(PHOTO[:30, :40]).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(PHOTO[:30, :40]).quantize(16).save(folder / "palette.png")
    Image.fromarray(PHOTO[:30, :40]).convert("1").save(folder / "bits.png")
    alpha = np.dstack([PHOTO[:30, :40], np.arange(1200).reshape(30, 40).astype(np.uint8)])
    save(folder / "alpha.png", alpha)
    frames = [Image.fromarray(PHOTO[k : k + 20, :20]) for k in (0, 50)]
    frames[0].save(folder / "still.gif")
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    content = io.BytesIO()
    Image.fromarray(PHOTO[:100, :100]).save(content, "JPEG")
    (folder / "truncated.jpg").write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    (folder / "empty.png").write_bytes(b"")
    return alpha


def test_a_folder_of_oddities_is_right_or_named_and_the_others_are_done(trained, command, tmp_path):
    alpha = folder_of_oddities(tmp_path / "photos")
    done = command("restore", f"run={trained['colour']}", "input=photos", "output=out", "tile=256")
    assert done.returncode == 1
    assert "3 of 11 files could not be restored" in done.stderr
    skipped = [line for line in done.stdout.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 3
    for name, why in (
        ("animated.gif", "2 frames"),
        ("truncated.jpg", "truncated"),
        ("empty.png", ""),
    ):
        assert any(name in line and why in line for line in skipped)
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "out").iterdir()}
    assert sizes == {
        "gray.png": (100, 37),
        "one.png": (1, 1),
        "wide.png": (5000, 20),
        "cmyk.jpg": (40, 30),
        "palette.png": (40, 30),
        "bits.png": (40, 30),
        "alpha.png": (40, 30),
        "still.gif.png": (20, 20),
    }
    kept = np.asarray(Image.open(tmp_path / "out" / "alpha.png"))
    assert np.array_equal(kept[..., 3], alpha[..., 3])
    assert "converted from CMYK to RGB" in done.stdout


def test_an_input_is_never_overwritten(trained, command, tmp_path):
    before = save(tmp_path / "a.png", PHOTO[:20, :20]).read_bytes()
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    for words in (
        ["input=a.png", "output=a.png"],
        ["input=a.png", "output=link.png"],
        ["input=[a.png]", "output=."],
    ):
        done = command("restore", f"run={trained['colour']}", *words)
        assert done.returncode == 2
        assert "would overwrite an input" in done.stderr
    assert (tmp_path / "a.png").read_bytes() == before


def test_what_a_run_is_told_comes_from_a_person(run, command, tmp_path):
    told = run(*COLOUR[:6], "data=photos64", "noise=mask", "model.side=true").path
    save(tmp_path / "a.png", PHOTO[:40, :60])
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 10:30] = 255
    save(tmp_path / "mask.png", mask)
    for words in ("side=mask.png", "side=0.2", "corrupt=true"):
        restore(command, told, "input=a.png", "output=out.png", words)
    damaged = PHOTO[:40, :60].copy()
    damaged[10:20, 10:30] = 255
    save(tmp_path / "damaged.png", damaged)
    results = []
    for name in ("a.png", "damaged.png"):  # what lies under the mask has no influence
        restore(command, told, f"input={name}", f"output=of-{name}", "side=mask.png")
        results.append(np.asarray(Image.open(tmp_path / f"of-{name}")))
    assert np.array_equal(*results)
    done = command("restore", f"run={told}", "input=a.png", "output=out.png")
    assert "give side=0.1, a level, or a mask, white where" in done.stderr
    save(tmp_path / "mask.png", mask[:30])
    done = command("restore", f"run={told}", "input=a.png", "output=out.png", "side=mask.png")
    assert "side=mask.png is 60×30, the photograph 60×40" in done.stderr


def test_a_run_of_one_size_says_so(run, command, tmp_path):
    dense = run("hidden=[8]", "data.limit=64").path
    save(tmp_path / "digit.png", PHOTO[:28, :28, 0])
    restore(command, dense, "input=digit.png", "output=out.png")
    save(tmp_path / "a.png", PHOTO[:40, :60, 0])
    done = command("restore", f"run={dense}", "input=a.png", "output=out.png")
    assert done.returncode == 2
    assert "restores images of 28×28 alone, not 40×60" in done.stderr


def test_a_folder_is_evaluated_at_its_own_sizes(trained, command, tmp_path):
    """Numbers are those of each image alone, with the noise that belongs to it."""
    (tmp_path / "photos").mkdir()
    sizes = [(60, 90), (130, 41), (64, 64)]
    for number, (height, width) in enumerate(sizes):
        save(tmp_path / "photos" / f"{number}.png", PHOTO[100 : 100 + height, 200 : 200 + width])
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    words = ["data=folder", "data.source.path=photos", "data.source.crop=none"]
    words += ["noise=gaussian", "noise.sigma=0.1", "noise.clip=false"]
    words += ["evaluator=[reconstruction,denoisers]", "evaluator.denoisers.methods=[median]"]
    done = command("evaluate", f"run={trained['colour']}", *words)
    assert done.returncode == 0, done.stderr
    assert "1 files cannot be used and are left out, e.g. broken.png" in done.stdout
    [table] = (trained["colour"] / "evaluations").glob("reconstruction-photos*.csv")
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 3
    model = load_model(Run(trained["colour"]))
    for number, (height, width) in enumerate(sizes):
        clean = torch.from_numpy(PHOTO[100 : 100 + height, 200 : 200 + width].copy())
        clean = clean.permute(2, 0, 1)[None] / 255
        rng = generator("test", "noise", number)
        corrupted = clean + 0.1 * torch.randn(clean.shape, generator=rng)
        with torch.no_grad():
            batch = Batch(clean, corrupted, torch.zeros(1, 1), torch.arange(1))
            restored = model(batch).reconstruction
        for kind, image in (("corrupted", corrupted), ("reconstruction", restored)):
            expected = -10 * float((image - clean).square().mean().log10())
            assert float(rows[number][f"{kind}/psnr"]) == pytest.approx(expected, abs=1e-3)


def test_images_of_different_sizes_are_for_evaluation_alone(trained, command, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(3):
        save(tmp_path / "photos" / f"{number}.png", PHOTO[: 40 + number, :50])
    words = ["data=folder", "data.source.path=photos", "data.source.crop=none"]
    for first, more in (
        (("train",), ["epochs=1"]),
        (("train",), ["-m", "latent=2,3"]),
        (("evaluate", f"run={trained['colour']}"), ["evaluator=samples"]),
    ):
        done = command(*first, *words, *more)
        assert done.returncode == 2
        assert "take data.source.crop=square or patches" in done.stderr
    done = command("evaluate", f"run={trained['colour']}", *words, "evaluator=likelihood")
    assert done.returncode == 2


def test_inpainting_is_compared_with_the_biharmonic_equation(run, command):
    done = run(
        *COLOUR[:6],
        "data=photos64",
        "noise=mask",
        "noise.fill=0.5",
        "model.side=true",
        "data.limit=8",
    ).path
    words = ["evaluator=denoisers", "evaluator.denoisers.methods=[biharmonic]"]
    result = command("evaluate", f"run={done}", *words)
    assert result.returncode == 0, result.stderr
    assert "missing PSNR dB" in result.stdout
    [table] = (done / "evaluations").glob("denoisers-*.csv")
    for row in csv.DictReader(table.open()):
        # Of a quarter that is missing, errors are spread over the whole image: 6 dB.
        gain = float(row["biharmonic/psnr"]) - float(row["biharmonic/psnr_missing"])
        assert gain == pytest.approx(6.02, abs=0.01)
        assert float(row["biharmonic/psnr"]) > float(row["corrupted/psnr"])
        there = float(row[f"{done.name}/psnr_missing"]) - float(row["biharmonic/psnr_missing"])
        assert float(row["biharmonic/run_gain_missing"]) == pytest.approx(there, abs=1e-4)
    result = command("evaluate", f"run={done}", *words, "noise=gaussian")
    assert "biharmonic restores what is missing of an image: take noise=mask" in result.stderr
