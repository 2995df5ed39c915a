"""The probe of llvm: asked once, in another process, and only when it matters."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("mitsuba")

from unscene.data.rendering import probe
from unscene.data.rendering.probe import KNOWN, LIBRARY, choose_variant, fallback_notice, llvm_works
from unscene.errors import InputError


@pytest.fixture
def asked(monkeypatch):
    """No answer is known; the processes asked say ``asked.code``, and are counted."""
    monkeypatch.setenv(KNOWN, "")  # so that what the probe writes is undone
    monkeypatch.delenv(KNOWN)
    monkeypatch.setenv(LIBRARY, "/somewhere/libLLVM.so")
    record = SimpleNamespace(code=0, commands=[])

    def run(command, **_):
        record.commands.append(command)
        return SimpleNamespace(returncode=record.code)

    monkeypatch.setattr(subprocess, "run", run)
    llvm_works.cache_clear()
    yield record
    llvm_works.cache_clear()


@pytest.mark.parametrize(("code", "variant"), [(0, "llvm_ad_rgb"), (-6, "scalar_rgb"), (1, "scalar_rgb")])
def test_auto_takes_what_works_and_asks_once(asked, code, variant):
    asked.code = code
    assert choose_variant("auto") == choose_variant("auto") == variant
    assert len(asked.commands) == 1 and asked.commands[0][0] == sys.executable
    assert os.environ[KNOWN] == str(int(code == 0))


@pytest.mark.parametrize(("known", "variant"), [("1", "llvm_ad_rgb"), ("0", "scalar_rgb")])
def test_other_processes_inherit_the_answer(asked, monkeypatch, known, variant):
    monkeypatch.setenv(KNOWN, known)
    assert choose_variant("auto") == variant
    assert not asked.commands


def test_scalar_is_not_asked_for(asked):
    assert choose_variant("scalar") == "scalar_rgb"
    assert not asked.commands


def test_llvm_that_does_not_work(asked):
    asked.code = -6
    with pytest.raises(InputError, match="llvm variant does not work here; point DRJIT_LIBLLVM_PATH at an LLVM 19"):
        choose_variant("llvm")


def test_notice(asked):
    assert fallback_notice() is None
    llvm_works.cache_clear()
    os.environ[KNOWN] = "0"
    assert fallback_notice() == (
        "rendering with Mitsuba's scalar variant; llvm takes half the time and needs LLVM 19: "
        'pip install "unscene[render-llvm]", or set DRJIT_LIBLLVM_PATH to its library'
    )


def test_a_library_of_the_environment_is_found(asked, monkeypatch, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libLLVM.so.19.1").touch()
    monkeypatch.setattr(probe.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv(LIBRARY, "/elsewhere/libLLVM.so")
    llvm_works()
    assert os.environ[LIBRARY] == "/elsewhere/libLLVM.so"
    llvm_works.cache_clear()
    monkeypatch.delenv(LIBRARY)
    llvm_works()
    assert os.environ[LIBRARY] == str(tmp_path / "lib" / "libLLVM.so.19.1")


def test_a_process_that_cannot_even_load_llvm(monkeypatch):
    """A real one."""
    monkeypatch.setenv(KNOWN, "")
    monkeypatch.delenv(KNOWN)
    monkeypatch.setenv(LIBRARY, "/nowhere/libLLVM.so")
    llvm_works.cache_clear()
    assert not llvm_works()
    llvm_works.cache_clear()


def test_bad_variant():
    with pytest.raises(InputError, match="unknown variant 'cuda'; choose one of auto, scalar, llvm"):
        choose_variant("cuda")


def test_without_mitsuba(monkeypatch):
    monkeypatch.setattr(probe, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'rendering needs Mitsuba: pip install "unscene\[render\]"'):
        choose_variant("scalar")
