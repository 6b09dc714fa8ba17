//! Which names in a pickle no model needs: what starts programs, opens connections, runs text as code, writes files, or reaches anything by its name.
//!
//! The lists follow those that picklescan and fickling keep in public, but for what real frameworks write: scikit-learn, joblib, torch, XGBoost and LightGBM
//! pickle bound methods and nested classes with `getattr`, loggers with `logging.getLogger`, identifiers as `uuid.UUID`, and those are no finding.
//!
//! What must stay true: a name is judged as Python would find it: by its package, by the old names that Python 3 still takes (`__builtin__`, `commands`), and by each part
//! of a name with dots, which leads from any module to any other.

use super::pickle::Global;

/// Packages of which nothing belongs in a model. Names that people give to files of their own (`test`, `code`) are not here whole.
const PACKAGES: [&[&str]; 5] = [PROGRAMS, CONNECTIONS, CODE, MODULES, FILES];

const PROGRAMS: &[&str] = &[
    "os",
    "posix",
    "nt",
    "subprocess",
    "_posixsubprocess",
    "popen2",
    "pty",
    "pexpect",
    "multiprocessing.popen_fork",
    "multiprocessing.popen_forkserver",
    "multiprocessing.popen_spawn_posix",
    "multiprocessing.util",
    "_osx_support",
    "_aix_support",
    "signal",
    "_signal",
    "atexit",
];

const CONNECTIONS: &[&str] = &[
    "socket",
    "ssl",
    "asyncio",
    "http",
    "httplib",
    "urllib",
    "urllib2",
    "urllib3",
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "imaplib",
    "nntplib",
    "poplib",
    "smtplib",
    "telnetlib",
    "socketserver",
    "SocketServer",
    "xmlrpc",
    "xmlrpclib",
    "paramiko",
    "webbrowser",
    "logging.config",
    "logging.handlers",
];

/// What runs texts.
const CODE: &[&str] = &[
    "codeop",
    "compileall",
    "py_compile",
    "runpy",
    "timeit",
    "cProfile",
    "pdb",
    "bdb",
    "doctest",
    "unittest",
    "test.support",
    "idlelib",
    "lib2to3",
    "_pyrepl",
    "pydoc",
    "marshal",
    "ctypes",
    "_ctypes",
    "numpy.f2py",
    "numpy.distutils",
    "numpy.testing._private",
    "torch.hub",
    "torch._inductor",
    "torch.utils.bottleneck",
    "torch.utils.collect_env",
    "torch.utils.data.datapipes.utils.decoder",
    "torch.utils._config_module",
    "torch.jit.unsupported_tensor_ops",
];

/// Modules by their names, and the interpreter itself.
const MODULES: &[&str] = &[
    "importlib",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "imp",
    "_imp",
    "pkgutil",
    "zipimport",
    "sys",
    "gc",
    "site",
    "venv",
    "ensurepip",
    "pip",
    "setuptools",
    "distutils",
];

/// Files, and pickles in them.
const FILES: &[&str] =
    &["shutil", "sqlite3", "_sqlite3", "shelve", "tarfile", "zipfile", "fileinput", "linecache", "pickle", "cPickle", "_pickle"];

/// Functions that do it in packages that are otherwise harmless.
const NAMES: &[(&str, &str)] = &[
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "execfile"),
    ("builtins", "apply"),
    ("builtins", "compile"),
    ("builtins", "open"),
    ("builtins", "file"),
    ("builtins", "__import__"),
    ("builtins", "setattr"),
    ("builtins", "delattr"),
    ("builtins", "globals"),
    ("builtins", "locals"),
    ("builtins", "vars"),
    ("builtins", "breakpoint"),
    ("builtins", "input"),
    ("builtins", "raw_input"),
    ("builtins", "reload"),
    ("commands", "getoutput"),
    ("commands", "getstatusoutput"),
    ("code", "interact"),
    ("code", "InteractiveInterpreter"),
    ("code", "InteractiveConsole"),
    ("profile", "run"),
    ("profile", "runctx"),
    ("profile", "Profile"),
    ("trace", "Trace"),
    ("io", "open"),
    ("io", "open_code"),
    ("io", "FileIO"),
    ("_io", "open"),
    ("_io", "open_code"),
    ("_io", "FileIO"),
    ("codecs", "open"),
    ("tempfile", "NamedTemporaryFile"),
    ("tempfile", "mkstemp"),
    ("tempfile", "mktemp"),
    ("logging", "FileHandler"),
    ("multiprocessing", "Process"),
    ("multiprocessing.context", "Process"),
    ("multiprocessing.process", "BaseProcess"),
    ("threading", "Thread"),
    ("threading", "Timer"),
    ("platform", "popen"),
    ("platform", "_syscmd_ver"),
    ("platform", "_syscmd_file"),
    ("uuid", "_get_command_stdout"),
    ("uuid", "_popen"),
    ("inspect", "getattr_static"),
    ("cloudpickle", "loads"),
    ("cloudpickle", "load"),
    ("dill", "loads"),
    ("dill", "load"),
    ("dill._dill", "loads"),
    ("dill._dill", "load"),
    ("joblib", "load"),
    ("joblib.numpy_pickle", "load"),
    ("numpy", "load"),
    ("numpy.lib.npyio", "load"),
    ("numpy.lib._npyio_impl", "load"),
    ("numpy.ctypeslib", "load_library"),
    ("pandas", "eval"),
    ("pandas", "read_pickle"),
    ("pandas.io.pickle", "read_pickle"),
    ("pandas.core.computation.eval", "eval"),
    ("sympy.core.sympify", "sympify"),
    ("torch", "load"),
    ("torch.serialization", "load"),
    ("torch.jit", "load"),
    ("torch.jit._serialization", "load"),
    ("torch.fx.experimental.symbolic_shapes", "ShapeEnv.evaluate_guards_expression"),
    ("torch._dynamo.guards", "GuardBuilder.get"),
    ("keras.models", "load_model"),
    ("tensorflow.keras.models", "load_model"),
];

/// What makes a function out of bytecode.
const BYTECODE: &[(&str, &str)] = &[
    ("types", "CodeType"),
    ("types", "FunctionType"),
    ("new", "code"),
    ("new", "function"),
    ("dill._dill", "_create_code"),
    ("dill._dill", "_create_function"),
    ("cloudpickle.cloudpickle", "_builtin_type"),
    ("cloudpickle.cloudpickle", "_make_function"),
    ("cloudpickle.cloudpickle", "_make_skel_func"),
    ("cloudpickle.cloudpickle", "_fill_function"),
    ("cloudpickle.cloudpickle", "_function_setstate"),
];

/// Attributes and items that lead to one of these from what looks harmless.
const ATTRIBUTES: &[&str] = &[
    "system",
    "popen",
    "Popen",
    "startfile",
    "fork",
    "forkpty",
    "posix_spawn",
    "posix_spawnp",
    "check_output",
    "check_call",
    "getoutput",
    "getstatusoutput",
    "eval",
    "exec",
    "execfile",
    "compile",
    "getattr",
    "setattr",
    "breakpoint",
    "import_module",
    "load_module",
    "exec_module",
    "run_module",
    "run_path",
    "runcode",
    "runsource",
    "loads",
    "read_pickle",
    "load_library",
    "LoadLibrary",
    "CDLL",
    "rmtree",
    "unlink",
    "modules",
    "f_globals",
    "f_builtins",
    "f_locals",
    "f_back",
    "f_code",
    "gi_frame",
    "gi_code",
    "cr_frame",
    "cr_code",
    "tb_frame",
    "func_globals",
    "func_code",
    "co_code",
    "urlopen",
    "urlretrieve",
];

/// Modules that any module may have as an attribute.
const LEADING: &[&str] = &[
    "os",
    "posix",
    "nt",
    "subprocess",
    "socket",
    "sys",
    "builtins",
    "__builtin__",
    "importlib",
    "ctypes",
    "shutil",
    "runpy",
    "pty",
    "pickle",
    "marshal",
];

/// Names between double underscores that bound methods and Python's own helpers have; all others lead into the interpreter.
const HARMLESS: &[&str] = &["__newobj__", "__newobj_ex__", "__call__", "__getitem__", "__contains__", "__len__", "__new__"];

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Harmless,
    /// It does what no model needs.
    Suspicious,
    /// It makes a function of bytecode.
    Bytecode,
}

/// What is to be thought of an import.
pub(super) fn judge(global: &Global) -> Verdict {
    let module = if global.module == "__builtin__" { "builtins" } else { global.module.as_str() };
    // Of a class also what belongs to it.
    let is = |list: &[(&str, &str)]| {
        list.iter()
            .any(|(of, name)| *of == module && global.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    // `os.path` only puts paths together.
    if matches!(module, "posixpath" | "ntpath" | "os.path") && !global.name.contains('.') && !LEADING.contains(&global.name.as_str()) {
        return Verdict::Harmless;
    }
    let is_below = |package: &&str| module.strip_prefix(*package).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    // Its first part is the module's own; what comes behind a dot is fetched from that.
    let mut parts = global.name.split('.');
    let leads = parts.clone().any(|part| LEADING.contains(&part) || leads_inside(part));
    let fetched = parts.by_ref().skip(1).any(is_suspicious_attribute);
    match () {
        () if PACKAGES.into_iter().flatten().any(is_below) || is(NAMES) || leads || fetched => Verdict::Suspicious,
        () if is(BYTECODE) => Verdict::Bytecode,
        () => Verdict::Harmless,
    }
}

/// Whether an attribute or an item of this name leads where no model needs to be.
pub(super) fn is_suspicious_attribute(name: &str) -> bool {
    let starts = |prefix: &str, most: usize| name.starts_with(prefix) && name.len() <= most;
    name.split('.').any(|part| ATTRIBUTES.contains(&part) || LEADING.contains(&part) || leads_inside(part))
        // `execvpe`, `spawnlp` and what else begins so.
        || starts("execv", 7)
        || starts("execl", 7)
        || starts("spawn", 8)
}

/// `__globals__`, `__subclasses__`, `__builtins__` …
fn leads_inside(part: &str) -> bool {
    part.len() > 4 && part.starts_with("__") && part.ends_with("__") && !HARMLESS.contains(&part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(module: &str, name: &str) -> Verdict {
        judge(&Global { module: module.to_owned(), name: name.to_owned(), offset: 0 })
    }

    #[test]
    fn packages_functions_and_ways_through_others_are_suspicious() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("nt", "system"),
            ("commands", "getoutput"),
            ("multiprocessing.util", "spawnv_passfds"),
            ("__builtin__", "eval"),
            ("builtins", "__import__"),
            ("builtins", "__dict__"),
            ("os.path", "os.system"),
            ("posixpath", "os"),
            ("numpy", "testing.os.system"),
            ("logging", "os"),
            ("numpy.testing._private.utils", "runstring"),
            ("numpy.f2py.crackfortran", "getlincoef"),
            ("collections", "OrderedDict.__init__.__globals__"),
            ("asyncio.unix_events", "_UnixSubprocessTransport._start"),
            ("pandas", "DataFrame.eval"),
            ("code", "InteractiveInterpreter.runcode"),
            ("profile", "Profile.run"),
            ("os", ""),
        ] {
            assert_eq!(verdict(module, name), Verdict::Suspicious, "{module}.{name}");
        }
        assert_eq!(verdict("types", "CodeType"), Verdict::Bytecode);
    }

    #[test]
    fn what_real_frameworks_import_is_not() {
        for (module, name) in [
            ("sklearn.svm", "SVC"),
            ("collections", "OrderedDict"),
            ("_codecs", "encode"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy.random._pickle", "__randomstate_ctor"),
            ("sklearn.tree._tree", "__pyx_unpickle_Tree"),
            ("copyreg", "__newobj__"),
            ("builtins", "getattr"),
            ("operator", "itemgetter"),
            ("functools", "partial"),
            ("logging", "getLogger"),
            ("uuid", "UUID"),
            ("os.path", "join"),
            ("sklearn.pipeline", "Pipeline.predict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("ossaudiolib", "x"),
            ("test", "Model"),
            ("code.network", "Model"),
        ] {
            assert_eq!(verdict(module, name), Verdict::Harmless, "{module}.{name}");
        }
    }

    #[test]
    fn attributes_are_judged_by_each_part() {
        for name in ["system", "__globals__", "__class__.__base__", "a.popen", "execvpe", "spawnlp", "os"] {
            assert!(is_suspicious_attribute(name), "{name}");
        }
        for name in ["predict", "__call__", "execution", "spawned_by_the_scheduler", "lower", "0"] {
            assert!(!is_suspicious_attribute(name), "{name}");
        }
    }
}
