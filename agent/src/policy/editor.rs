//! The JSON Schema of the policy file itself, for editors; derived from the raw form.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::raw::RawPolicy;

/// JSON Schema 2020-12 of a policy file.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    Value::from(generator.into_root_schema_for::<RawPolicy>())
}
