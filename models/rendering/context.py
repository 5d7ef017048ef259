"""One headless OpenGL context a process: EGL where it works, else OSMesa."""

from __future__ import annotations

import atexit
import ctypes
import ctypes.util
import importlib.util
import logging
import os
import sys
from pathlib import Path
from typing import Any, Literal

from models.errors import Unavailable

Platform = Literal["auto", "egl", "osmesa"]
PLATFORMS: tuple[Literal["egl"], Literal["osmesa"]] = ("egl", "osmesa")
"""In the order in which `auto` tries them."""

PACKAGES = "libosmesa6 libegl1 libegl-mesa0 libgl1-mesa-dri libgles2 libglx-mesa0 libgl1"
"""Debian packages that give both EGL and OSMesa."""

_log = logging.getLogger(__name__)
_contexts: list[GLContext] = []


class GLContext:
    """A live context and pyrender's renderer in it. Belongs to the thread that made it: GL is bound to threads."""

    def __init__(self, platform_name: Literal["egl", "osmesa"]) -> None:
        _bind_opengl(platform_name)
        import pyrender
        from OpenGL.error import Error as GLError
        from pyrender.shader_program import ShaderProgramCache

        self.platform_name = platform_name
        try:
            self._platform = _platform(platform_name)
            self._platform.init_context()
            self._platform.make_current()
        except (GLError, ImportError, RuntimeError, ValueError, AssertionError, OSError) as error:
            raise Unavailable(f"no {platform_name} context ({_first_line(error)}); {_remedy()}") from error
        self.renderer: Any = pyrender.Renderer(1, 1)
        self.renderer._program_cache = ShaderProgramCache(shader_dir=str(Path(__file__).parent / "shaders"))

    def close(self) -> None:
        """Free what GL holds; at the process's end pyrender's own destructors come too late."""
        self._platform.make_current()
        self.renderer.delete()
        self._platform.delete_context()

    def draw(self, scene: Any, size_px: int) -> tuple[Any, Any]:
        """Colour (size_px, size_px, 4) uint8, premultiplied, and depth (size_px, size_px) float32, 0 = background."""
        from pyrender import RenderFlags

        self._platform.make_current()
        self.renderer.viewport_width = self.renderer.viewport_height = size_px
        return self.renderer.render(scene, RenderFlags.OFFSCREEN | RenderFlags.RGBA)  # type: ignore[no-any-return]


def gl_context(platform: Platform = "auto") -> GLContext:
    """The process's context, made at the first call (a quarter of a second and pyrender's import).

    Raises Unavailable with the packages to install, or when the process already renders on another platform.
    """
    if not _contexts:
        _contexts.append(GLContext(_choose(platform)))
        atexit.register(_contexts[0].close)
        _log.debug("rendering with %s", _contexts[0].platform_name)
    context = _contexts[0]
    if platform not in ("auto", context.platform_name):
        raise Unavailable(f"this process already renders with {context.platform_name}; start a new one for {platform}")
    return context


def works(platform: Literal["egl", "osmesa"]) -> bool:
    """Whether this machine can render on that platform, as far as can be told without a context."""
    _load_triton_first()
    return _egl_works() if platform == "egl" else ctypes.util.find_library("OSMesa") is not None


def _choose(platform: Platform) -> Literal["egl", "osmesa"]:
    for candidate in PLATFORMS:
        if platform in ("auto", candidate) and works(candidate):
            return candidate
    raise Unavailable(f"no headless OpenGL ({platform}) on this machine; {_remedy()}")


def _remedy() -> str:
    return f"apt-get install --no-install-recommends {PACKAGES}"


def _egl_works() -> bool:
    """Whether EGL has a display that starts. Asked without PyOpenGL, which binds to its platform at import."""
    if not (ctypes.util.find_library("GL") or ctypes.util.find_library("OpenGL")):
        return False
    try:
        egl = ctypes.CDLL(ctypes.util.find_library("EGL") or "libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    addresses = [egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT")]
    if not all(addresses):
        return False
    query_devices = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(addresses[0])
    get_display = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(addresses[1])
    device, num_devices = ctypes.c_void_p(), ctypes.c_int()
    if not query_devices(1, ctypes.byref(device), ctypes.byref(num_devices)) or num_devices.value < 1:
        return False
    egl_platform_device_ext = 0x313F
    display = get_display(egl_platform_device_ext, device, None)
    egl.eglInitialize.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    return bool(display) and bool(egl.eglInitialize(display, None, None))


def _bind_opengl(platform_name: str) -> None:
    """PyOpenGL reads its platform from the environment at its first import, and keeps it."""
    if importlib.util.find_spec("pyrender") is None:
        raise Unavailable("pyrender is not installed: pip install pyrender-maintained")
    bound = os.environ.get("PYOPENGL_PLATFORM")
    if "OpenGL.platform" in sys.modules and bound != platform_name:
        raise Unavailable(f"PyOpenGL was imported for {bound or 'a screen'} before; render in a process of its own")
    os.environ["PYOPENGL_PLATFORM"] = platform_name


def _load_triton_first() -> None:
    """torch's optimisers import Triton, and Triton's LLVM crashes the process when Mesa's was loaded before it."""
    triton = importlib.util.find_spec("triton")
    for folder in (triton.submodule_search_locations or ()) if triton else ():
        for library in (Path(folder) / "_C").glob("libtriton*.so"):
            ctypes.CDLL(str(library))


def _platform(platform_name: str) -> Any:
    if platform_name == "egl":
        from pyrender.platforms import egl

        return egl.EGLPlatform(1, 1, device=egl.get_device_by_index(int(os.environ.get("EGL_DEVICE_ID", "0"))))
    from pyrender.platforms import osmesa

    return osmesa.OSMesaPlatform(1, 1)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
