"""Pickles that call: every callable that public lists of exploits name, by every way in which a pickle can call it.

The names are those of picklescan's, fickling's and ModelScan's lists and of reports against them and against
``torch.load(weights_only=True)``. Each would make a file ``canary`` where it is executed.
"""

from __future__ import annotations

import base64
import pickle
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from foreign_files import Calls, push, text, whole, write_zip
from foreign_hostile import BROKEN, CODE, EXTENSIONS, HOSTILE, LAUGHS, NAMED, TOUCH
from hostile_case import REFUSED, Case

COMMANDS: dict[str, Sequence[object]] = {
    "inspect": ("inspect", "FILE"),
    "inspect --json": ("inspect", "FILE", "--json"),
    "import": ("import", "FILE", "--out", "run", "--quiet"),
    "transfer": ("transfer", "--source", "FILE", "--data", "builtin:digits", "--strategy", "linear-probe", "--out", "run",
    "--quiet"),
    "evaluate": ("evaluate", "FILE", "--data", "builtin:digits", "--threat", "linf:8/255", "--quiet"),
    "predict": ("predict", "FILE", "x.png", "--quiet"),
    "export": ("export", "FILE", "--to", "onnx", "--out", "x.onnx", "--quiet"),
    "rank": ("rank", "FILE", "--data", "builtin:digits", "--quiet"),
}  # fmt: skip
# Beside those of tests/foreign_hostile.py.
FURTHER = (
    "os.posix_spawn os.fork os.kill os.putenv os.symlink os.rename os.link os.truncate os.mkfifo os.listdir "
    "os.chmod nt.startfile posix.popen subprocess.getstatusoutput subprocess._args_from_interpreter_flags "
    "asyncio.run asyncio.subprocess.create_subprocess_exec asyncio.unix_events._UnixSubprocessTransport._start "
    "multiprocessing.Process concurrent.futures.process._process_worker importlib.__import__ "
    "importlib.util.spec_from_file_location importlib.machinery.SourceFileLoader "
    "_frozen_importlib_external.spec_from_file_location zipimport.zipimporter pydoc.locate pydoc.tempfilepager "
    "venv.create ssl.get_server_certificate uuid._get_command_stdout getpass.unix_getpass "
    "_pyrepl.pager.pipe_pager platform.popen ctypes.util.find_library _osx_support._find_build_tool "
    "distutils.spawn.spawn distutils.command.build_ext.build_ext cgitb.lookup ensurepip._bootstrap "
    "idlelib.autocomplete.AutoComplete.get_entity idlelib.autocomplete.AutoComplete.fetch_completions "
    "idlelib.calltip.Calltip.fetch_tip idlelib.calltip.get_entity idlelib.debugobj.ObjectTreeItem.SetText "
    "idlelib.run.Executive.runcode lib2to3.pgen2.pgen.ParserGenerator.make_label "
    "code.InteractiveInterpreter.runcode cProfile.runctx profile.Profile.runctx trace.Trace.runctx "
    "bdb.Bdb.runeval pdb.Pdb.do_source doctest.testfile unittest.mock._importer "
    "unittest.loader.TestLoader.loadTestsFromName test.support.script_helper.assert_python_ok "
    "logging.config.dictConfig logging.config.resolve logging.FileHandler shutil.unpack_archive "
    "shutil._unpack_zipfile tarfile.TarFile.extractall zipfile.ZipFile.extractall urllib.request.urlretrieve "
    "urllib.request.FancyURLopener xmlrpc.client.ServerProxy http.server.test socketserver.TCPServer "
    "telnetlib.Telnet nntplib.NNTP imaplib.IMAP4_stream poplib.POP3 sqlite3.connect dbm.open "
    "shelve.DbfilenameShelf mailcap.findmatch netrc.netrc configparser.RawConfigParser.read fileinput.input "
    "tokenize.open inspect.getsource gc.get_objects weakref.finalize atexit.register sched.scheduler "
    "contextlib.ExitStack.callback types.MethodType types.SimpleNamespace copyreg.add_extension copyreg.pickle "
    "copy._reconstruct builtins.apply builtins.delattr builtins.dir builtins.help builtins.super "
    "builtins.object.__reduce_ex__ builtins.__build_class__ builtins.print __builtin__.file __builtin__.getattr "
    "__builtin__.reload exceptions.Exception collections.namedtuple typing._eval_type typing.ForwardRef "
    "typing.get_type_hints dataclasses._create_fn string.Formatter.vformat enum._simple_enum numpy.load "
    "numpy.fromfile numpy.memmap numpy.save numpy.core._internal.sys.modules.get "
    "numpy.f2py.crackfortran._eval_length numpy.f2py.crackfortran.param_eval numpy.f2py.f2py2e.run_main "
    "numpy.f2py.diagnose.run_command numpy.testing.rundocs numpy.ctypeslib.load_library "
    "numpy.distutils.ccompiler.CCompiler_spawn numpy.__builtins__.get numpy.poly1d scipy.io.loadmat "
    "scipy.sparse.load_npz sklearn.datasets.load_files sklearn.utils._mocking.MockDataFrame pandas.read_pickle "
    "pandas.eval pandas.io.common.get_handle pandas.core.computation.eval.eval pandas.compat.pickle_compat.loads "
    "joblib.load joblib.numpy_pickle.load dill._dill._import_module dill._dill._eval_repr dill._dill._setitems "
    "dill._dill._create_cell cloudpickle.cloudpickle.subimport cloudpickle.cloudpickle._builtin_type "
    "cloudpickle.cloudpickle._function_setstate torch.load torch.save torch.os.system "
    "torch.hub.download_url_to_file torch.hub.load_state_dict_from_url torch.hub._get_cache_or_reload "
    "torch.package.PackageImporter torch.classes.load_library torch._C._jit_pass_onnx "
    "torch._inductor.codecache.compile_file "
    "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler.SubprocessHandler "
    "torch._dynamo.repro.after_dynamo.run_load_args torch.utils.bottleneck.__main__.run_cprofile "
    "torch.utils.bottleneck.__main__.run_autograd_prof torch.utils.collect_env.run "
    "torch.utils.data.datapipes.utils.decoder.basichandlers torch.utils._cpp_embed_headers.embed_headers "
    "torch.utils.model_dump.get_model_info torch.onnx._internal.exporter._reporting.create_report "
    "torch.multiprocessing.spawn torch.multiprocessing.reductions.rebuild_storage_fd "
    "torch.multiprocessing.reductions.rebuild_cuda_tensor torch.storage._load_from_bytes "
    "torch._utils._rebuild_device_tensor_from_numpy torch._utils._rebuild_wrapper_subclass "
    "torch._utils._rebuild_nested_tensor torch._utils._rebuild_sparse_csr_tensor "
    "torch._utils._rebuild_meta_tensor_no_storage torch._tensor._rebuild_from_type "
    "torch.nn.modules.module.Module.__setstate__ torch.fx.graph_module.reduce_graph_module "
    "torch.fx.graph_module._forward_from_src torch.jit._recursive.try_compile_fn "
    "torchvision.datasets.utils.download_url timm.models.load_checkpoint transformers.pipeline "
    "transformers.dynamic_module_utils.get_class_from_dynamic_module huggingface_hub.snapshot_download "
    "datasets.load_dataset accelerate.utils.other.load yaml.load yaml.unsafe_load_all ray.cloudpickle.loads "
    "ray.get mlflow.pyfunc.load_model keras.models.load_model keras.src.utils.python_utils.func_load "
    "tensorflow.io.write_file tensorflow.py_function jinja2.Template jinja2.environment.Environment.from_string "
    "matplotlib.cbook._load_image PIL.ImageMath.unsafe_eval PIL.ImageShow.IPythonViewer "
    "PIL.EpsImagePlugin.Ghostscript sympy.sympify pip._vendor.distlib.scripts.ScriptMaker pip._internal.cli.main "
    "setuptools.sandbox.run_setup pkg_resources.run_script gunicorn.util.load_class werkzeug.utils.import_string "
    "django.utils.module_loading.import_string flask.helpers.locked_cached_property "
    "celery.utils.imports.symbol_by_name fabric.Connection paramiko.SSHClient pexpect.spawn sh.Command "
    "plumbum.local plac_core.call xonsh.main IPython.embed ptpython.repl.embed"
)


def reduced(name: str, *args: object) -> bytes:
    return push(Calls(name, *args))


def _stack_global(name: str, *args: object) -> bytes:
    module, _, own = name.rpartition(".")
    return text(module) + text(own) + b"\x93" + push(tuple(args)) + b"R"


def _memoized(name: str, *args: object) -> bytes:
    module, _, own = name.rpartition(".")
    return text(module) + b"\x940" + text(own) + b"\x940h\x00h\x01\x93" + push(tuple(args)) + b"R"


def _global(name: str) -> bytes:
    module, _, own = name.rpartition(".")
    return f"c{module}\n{own}\n".encode()


def _inst(name: str, *args: object) -> bytes:
    module, _, own = name.rpartition(".")
    return b"(" + b"".join(map(push, args)) + f"i{module}\n{own}\n".encode()


def _obj(name: str, *args: object) -> bytes:
    return b"(" + _global(name) + b"".join(map(push, args)) + b"o"


def _newobj(name: str, *args: object) -> bytes:
    return _global(name) + push(tuple(args)) + b"\x81"


def _newobj_ex(name: str, *args: object) -> bytes:
    return _global(name) + push(tuple(args)) + push({"shell": True}) + b"\x92"


def _built(name: str, *args: object) -> bytes:
    """Attributes that are set on a function, as a state in two parts."""
    return _global(name) + push((None, {"__setstate__": Calls(name, *args), "a": "os"})) + b"b"


def _setstate(name: str, *args: object) -> bytes:
    """An object whose ``__setstate__`` is the function, and whose state is its argument."""
    return (
        b"cargparse\nNamespace\n)R"
        + push({"__setstate__": Calls(name)})
        + b"b"
        + push(args[0] if args else None)
        + b"b"
    )


def _appended(name: str, *args: object) -> bytes:
    return b"ccollections\nUserList\n)R" + push({"append": Calls(name)}) + b"b" + push(args[0]) + b"a"


def _dotted(name: str, *args: object) -> bytes:
    return text("torch") + text(f"serialization.{name}") + b"\x93" + push(tuple(args)) + b"R"


def _mapped(name: str, *args: object) -> bytes:
    return push(Calls("builtins.list", Calls("builtins.map", Calls(name), list(args))))


def _partial(name: str, *args: object) -> bytes:
    return push(Calls("functools.partial", Calls(name), *args)) + push(()) + b"R"


def _key(name: str, *args: object) -> bytes:
    """A key of a dict, which is hashed as it is read."""
    return b"}(" + reduced(name, *args) + push(1) + b"u"


def _array(name: str, *args: object) -> bytes:
    """An element of a NumPy array of objects."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR(K\x01K\x01\x85cnumpy\ndtype\n("
        + text("O8") + b"K\x00K\x01tR\x89](" + reduced(name, *args) + b"etb"
    )  # fmt: skip


def _typed(name: str, *args: object) -> bytes:
    return push(
        Calls("torch._tensor._rebuild_from_type_v2", Calls(name), Calls(name), tuple(args), {"x": Calls(name, *args)})
    )


def _nested(name: str, *args: object) -> bytes:
    """A pickle in the bytes of a storage."""
    inner = b"\x80\x02" + reduced(name, *args) + b"."
    return push(Calls("torch.storage._load_from_bytes", Calls("_codecs.encode", inner.decode("latin-1"), "latin1")))


def _decoded(name: str, *args: object) -> bytes:
    packed = base64.b64encode(zlib.compress(whole(reduced(name, *args)))).decode()
    return push(Calls("pickle.loads", Calls("zlib.decompress", Calls("base64.b64decode", packed))))


def _got(name: str, *args: object) -> bytes:
    module, _, own = name.rpartition(".")
    return push(Calls("builtins.getattr", Calls("builtins.__import__", module), own)) + push(tuple(args)) + b"R"


def _of_dict(name: str, *args: object) -> bytes:
    return push(Calls("builtins.dict.get", Calls("numpy.__builtins__"), "exec")) + push((CODE,)) + b"R"


def _found_in_modules(name: str, *args: object) -> bytes:
    module, _, own = name.rpartition(".")
    found = Calls("operator.itemgetter", module)
    return (
        push(Calls("operator.attrgetter", own))
        + b"("
        + push(found)
        + b"(csys\nmodules\ntRtR"
        + push(tuple(args))
        + b"R"
    )


WAYS: dict[str, Callable[..., bytes]] = {
    "REDUCE": reduced, "STACK_GLOBAL": _stack_global, "STACK_GLOBAL of a memo": _memoized, "INST": _inst, "OBJ": _obj,
    "NEWOBJ": _newobj, "NEWOBJ_EX": _newobj_ex, "BUILD in two parts": _built, "BUILD by __setstate__": _setstate,
    "APPEND of an object": _appended, "a dotted name": _dotted, "map": _mapped, "partial": _partial, "a key": _key,
    "an array of objects": _array, "a tensor's type": _typed, "a nested pickle": _nested, "a packed pickle": _decoded,
    "getattr": _got, "__builtins__ as a dict": _of_dict, "sys.modules": _found_in_modules,
}  # fmt: skip


def in_plain(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def in_legacy(path: Path, content: bytes) -> None:
    """PyTorch's format of before 1.6."""
    head = b"".join(pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(head + content + pickle.dumps([], 2))


def in_zip(path: Path, content: bytes) -> None:
    write_zip(path, content)


def in_npy(path: Path, content: bytes) -> None:
    """A NumPy file of objects, whatever its ending says."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content)


def in_npz(path: Path, content: bytes) -> None:
    import zipfile

    in_npy(path, content)
    array = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weight.npy", array)


def in_frames(path: Path, content: bytes) -> None:
    """Protocol 4, in a frame that says to be as long as can be."""
    path.write_bytes(b"\x80\x04\x95" + struct.pack("<Q", 2**64 - 1) + content[2:])


def behind(path: Path, content: bytes) -> None:
    """A second pickle, behind one that is harmless."""
    path.write_bytes(pickle.dumps({"a": 1}, 2) + content)


FORMS: dict[str, Callable[[Path, bytes], None]] = {
    "pickle": in_plain, "legacy": in_legacy, "zip": in_zip, "npy": in_npy, "npz": in_npz, "frame": in_frames, "second": behind,
}  # fmt: skip
ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".tar", ".npz", ".npy", ".safetensors", ".png", "")


def _made(folder: Path, content: bytes, form: str, ending: str, command: str) -> list[object]:
    path = folder / f"x{ending}"
    FORMS[form](path, content)
    (folder / "evil.py").write_text(CODE)
    (folder / "evil.pt").write_bytes(whole(reduced("os.system", TOUCH)))
    return [path.name if word == "FILE" else word for word in COMMANDS[command]]


def cases(chance: random.Random) -> Iterator[Case]:
    names = [*dict.fromkeys([*NAMED.split(), *FURTHER.split(), "os.system", "builtins.eval", "builtins.exec"])]
    for name in names:
        argument = CODE if name.endswith(("eval", "exec", "compile", "runstring", "_code", "runcode")) else TOUCH
        for way in chance.sample(list(WAYS), 1):
            yield _case(chance, f"{name} by {way}", b"}(" + text("weight") + push([1.0]) + text("evil")
                        + WAYS[way](name, argument) + b"u")  # fmt: skip
    for way, make in WAYS.items():
        for form in FORMS:
            yield _case(chance, f"os.system by {way}", make("os.system", TOUCH), form)
    for name, value in HOSTILE.items():
        yield _case(chance, name, b"}(" + text("weight") + push([1.0]) + text("evil") + value + b"u")
    for name, content in {**BROKEN, **{key: whole(value + b"0N") for key, value in EXTENSIONS.items()}}.items():
        yield _case(chance, f"broken: {name}", content[2:-1] if content.endswith(b".") else content, "pickle")
    for protocol in (0, 1, 2, 3, 4, 5):
        for name, value in (
            ("billion laughs", LAUGHS),
            ("itself", b"]q\x00h\x00a"),
            ("deep", b"(" * 10**5 + b"l" * 10**5),
        ):
            yield _case(chance, f"{name}, protocol {protocol}", value, "pickle", bytes([0x80, protocol]))


def _case(chance: random.Random, name: str, value: bytes, form: str | None = None, begins: bytes = b"\x80\x02") -> Case:
    form = form or chance.choice(list(FORMS))
    ending, command = chance.choice(ENDINGS), chance.choice(list(COMMANDS))
    made = partial(_made, content=begins + value + b".", form=form, ending=ending, command=command)
    return Case("pickles", f"{name}, {form} as {ending or 'no ending'}, {command}", made, REFUSED)
