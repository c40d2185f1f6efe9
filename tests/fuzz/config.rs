//! The agent's own configuration, and the names of instances, which become paths.

use std::path::{Component, Path};

use agent::config::{Config, Instance};

use crate::mutator::fuzz;

const GOOD: &str = "instance = \"stockade\"\npolicies = \"/etc/stockade/policies.d\"\n\
    control_group = \"stockade\"\nmetrics = \"127.0.0.1:9464\"\n[log]\nlevel = \"info\"\n\
    format = \"json\"\n[sessions]\nmax = 64\n";

#[test]
fn a_configuration_of_any_bytes_is_read_or_refused() {
    let good: &[&[u8]] = &[b"", GOOD.as_bytes()];
    Config::parse(Path::new("good.toml"), GOOD).expect("a good configuration");
    fuzz("configuration", good, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Err(error) = Config::parse(Path::new("fuzz.toml"), &text) {
            assert!(error.to_string().contains("fuzz.toml"), "{error}");
        }
    });
}

#[test]
fn the_name_of_an_instance_stays_in_its_folders() {
    fuzz("instance", &[b"stockade", b"stockade-run-17"], |bytes| {
        let Ok(name) = str::from_utf8(bytes) else {
            return;
        };
        let Ok(instance) = Instance::new(name) else {
            return;
        };
        for path in [
            instance.run_folder(),
            instance.pin_folder(),
            instance.state_folder(),
        ] {
            let parts: Vec<_> = path.components().map(Component::as_os_str).collect();
            assert!(
                !parts.iter().any(|part| *part == ".."),
                "{}",
                path.display()
            );
            assert!(parts.iter().any(|part| *part == name), "{}", path.display());
        }
    });
}
