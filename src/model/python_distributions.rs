//! Which distribution on a package index brings which module, where the names differ.
//!
//! An import names a module, a `requirements.txt` a distribution. For most the two are one; for those that are not, users do not know either, which is why
//! "No module named 'sklearn'" is asked about so often. What a distribution depends on is the resolver's to say, not this file's.

use std::collections::BTreeSet;

use super::python_package::normalised;

/// A module, and the distributions that bring it, the usual one first.
const BROUGHT_BY: &[(&str, &[&str])] = &[
    ("Crypto", &["pycryptodome"]),
    ("Levenshtein", &["levenshtein", "python-levenshtein"]),
    ("MySQLdb", &["mysqlclient"]),
    ("OpenSSL", &["pyopenssl"]),
    ("PIL", &["pillow", "pillow-simd"]),
    ("attr", &["attrs"]),
    ("attrs", &["attrs"]),
    ("bs4", &["beautifulsoup4"]),
    ("cv2", &["opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"]),
    ("dateutil", &["python-dateutil"]),
    ("docx", &["python-docx"]),
    ("dotenv", &["python-dotenv"]),
    ("faiss", &["faiss-cpu", "faiss-gpu"]),
    ("fitz", &["pymupdf"]),
    ("git", &["gitpython"]),
    ("google", &["protobuf", "google-api-core", "google-cloud-storage", "google-auth"]),
    ("grpc", &["grpcio"]),
    ("igraph", &["igraph", "python-igraph"]),
    ("imblearn", &["imbalanced-learn"]),
    ("jose", &["python-jose"]),
    ("jwt", &["pyjwt"]),
    ("magic", &["python-magic"]),
    ("mpl_toolkits", &["matplotlib"]),
    ("pkg_resources", &["setuptools"]),
    ("distutils", &["setuptools"]),
    ("psycopg2", &["psycopg2-binary", "psycopg2"]),
    ("pylab", &["matplotlib"]),
    ("ruamel", &["ruamel-yaml"]),
    ("serial", &["pyserial"]),
    ("skimage", &["scikit-image"]),
    ("sklearn", &["scikit-learn", "sklearn", "scikit-learn-intelex"]),
    ("slugify", &["python-slugify"]),
    ("tensorflow", &["tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tf-nightly", "intel-tensorflow", "tensorflow-macos"]),
    ("tflite_runtime", &["tflite-runtime"]),
    ("umap", &["umap-learn"]),
    ("usb", &["pyusb"]),
    ("yaml", &["pyyaml"]),
    ("zmq", &["pyzmq"]),
];

/// The distribution to name in a `requirements.txt` for a module.
pub fn usual(module: &str) -> String {
    brought_by(module).map_or_else(|| normalised(module), |names| names[0].to_owned())
}

fn brought_by(module: &str) -> Option<&'static [&'static str]> {
    BROUGHT_BY.iter().find(|(name, _)| *name == module).map(|(_, names)| *names)
}

/// Whether one of these distributions (names as indexes compare them) brings the module.
pub fn bring(distributions: &BTreeSet<String>, module: &str) -> bool {
    let own = normalised(module);
    let named = brought_by(module).unwrap_or_default().iter().any(|name| distributions.contains(*name));
    // `google.cloud.storage` is `google-cloud-storage`, and `azure`, `ruamel` and others are shared in the same way.
    let shared = || distributions.iter().any(|name| name.strip_prefix(&own).is_some_and(|rest| rest.starts_with('-')));
    named || distributions.contains(&own) || shared()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_under_the_names_of_their_distributions() {
        let has = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert!(bring(&has(&["scikit-learn"]), "sklearn") && !bring(&has(&["scikit-learn"]), "scipy"));
        assert!(bring(&has(&["opencv-python"]), "cv2") && bring(&has(&["category-encoders"]), "category_encoders"));
        assert!(bring(&has(&["google-cloud-bigquery"]), "google") && !bring(&has(&["numpy"]), "pandas"));
        assert_eq!(
            (usual("sklearn"), usual("category_encoders"), usual("pandas")),
            ("scikit-learn".into(), "category-encoders".into(), "pandas".into())
        );
    }
}
