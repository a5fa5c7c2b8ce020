"""The app as a person uses it, in headless Chromium: `make test-app`.

Three small runs are trained. A script moves sliders, clicks into the plane of codes, drops a photo,
generates and compares, and reads what the page then shows. Screenshots go to outputs/app/.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright
from skimage.data import astronaut

import ae_lab

SCREENSHOTS = Path("outputs/app")
WAIT, SETTLE = 30_000, 1_500  # ms: for a change at most; until the last of several has arrived
QUIET = {"trainer.enable_progress_bar": False}
UNET = {"model.encoder.width": 8, "model.encoder.blocks_per_stage": 1, "model.side": True}


def train_models(folder: str) -> dict[str, Path]:
    """A run with a plane of codes, a conditional one, and one that takes photographs."""
    where = QUIET | {"paths.outputs": folder}
    digits = {"data": "mnist5k", "epochs": 5, "latent": 2, **where}
    photos = {"preset": "denoise_photo", "data": "photos64", "epochs": 2, "depth": 2, **where}
    return {
        "vae": ae_lab.train(model="vae", **digits).path,
        "cvae": ae_lab.train(model="cvae", **digits).path,
        "unet": ae_lab.train(**photos, **UNET, latent=16).path,
    }


def serve(*runs: Path) -> tuple[subprocess.Popen, str]:
    """The app of runs, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = f"run=[{','.join(map(str, runs))}]"
    words = [sys.executable, "-m", "ae_lab.app", named, f"port={port}", "browser=false"]
    process = subprocess.Popen(words)
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(address)
            return process, address
        except OSError:
            time.sleep(0.5)
    raise SystemExit("the app did not start")


def wait_for_change(image: Locator, before: str | None) -> str:
    """The address of an image once it is another than before."""
    for _ in range(WAIT // 100):
        now = image.get_attribute("src") if image.count() else None
        if now and now != before:
            return now
        time.sleep(0.1)
    raise SystemExit("the image did not change")


def use_explore(page: Page) -> None:
    decoded = page.locator("#decoded:visible img")
    first = decoded.get_attribute("src")
    slider = page.locator("input[type=range]:visible").first
    slider.focus()
    for _ in range(10):
        slider.press("ArrowRight")
    wait_for_change(decoded, first)
    page.wait_for_timeout(SETTLE)
    second = decoded.get_attribute("src")
    value = page.locator("input[type=number]:visible").first.input_value()
    print(f"Explore: the slider is at {value}, the image changed")
    page.locator("#plane:visible img").click(position={"x": 60, "y": 60})
    third = wait_for_change(decoded, second)
    page.wait_for_timeout(SETTLE)
    value = page.locator("input[type=number]:visible").first.input_value()
    print(f"Explore: a click into the plane moved it to {value}, the image changed")
    page.locator("#examples:visible button img, #examples:visible img").nth(3).click()
    wait_for_change(decoded, third)
    print("Explore: a click on a test image shows its code")
    page.screenshot(path=SCREENSHOTS / "explore.png", full_page=True)


def use_generate(page: Page) -> None:
    page.get_by_role("tab", name="Generate").click()
    samples = page.locator("#samples:visible img")
    page.locator("#generate:visible").click()
    first = wait_for_change(samples, None)
    page.locator("#seed:visible input").fill("5")
    page.locator("#generate:visible").click()
    wait_for_change(samples, first)
    print("Generate: another seed, other images")
    page.screenshot(path=SCREENSHOTS / "generate.png", full_page=True)


def use_compare(page: Page) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare").click()
    rows = page.locator("#rows img")
    wait_for_change(rows.first, None)
    print(f"Compare: {rows.count()} rows")
    page.screenshot(path=SCREENSHOTS / "compare.png", full_page=True)


def use_restore(page: Page, photo: Path) -> None:
    page.get_by_role("tab", name="Restore").click()
    page.locator("#photo:visible input[type=file]").set_input_files(photo)
    page.locator("#photo:visible img").wait_for(timeout=WAIT)
    page.locator("#restore:visible").click()
    restored = page.locator("#restored:visible img")
    wait_for_change(restored.first, None)
    text = page.locator("#gain:visible").inner_text()
    assert "PSNR" in text, text
    print(f"Restore: {text}")
    page.screenshot(path=SCREENSHOTS / "restore.png", full_page=True)


def main() -> None:
    chromium = shutil.which("chromium") or sys.exit("Debian's chromium is not installed")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        models = train_models(folder)
        photo = Path(folder) / "photo.png"
        Image.fromarray(astronaut()).save(photo)
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        for runs, uses in (
            ([models["vae"]], [use_explore]),
            ([models["vae"], models["cvae"]], [use_generate, use_compare]),
            ([models["unet"]], [lambda page: use_restore(page, photo)]),
        ):
            process, address = serve(*runs)
            try:
                page.goto(address)
                page.get_by_role("tab", name="Explore").wait_for(timeout=WAIT)
                for use in uses:
                    use(page)
            finally:
                process.terminate()
                process.wait()
        browser.close()
    print(f"screenshots in {SCREENSHOTS}; errors of the page: {errors or 'none'}")
    sys.exit(bool(errors))


if __name__ == "__main__":
    main()
