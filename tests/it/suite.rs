//! The JSON Schema Test Suite against the schemas of verbs: for every schema that a policy could name,
//! each verdict is the suite's. What is no schema of a policy is refused as a whole, and listed.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use agent::policy::schema::{Linted, Schema};
use serde_json::{Value, json};

/// What came of one dialect.
#[derive(Default)]
struct Score {
    right: u32,
    /// Formats of 2020-12 are asserted in policies, where the suite only annotates.
    stricter: u32,
    wrong: Vec<String>,
    /// Groups that are refused, by why: how many, and the files they are in.
    refused: BTreeMap<String, (u32, Vec<String>)>,
}

impl Score {
    fn refuse(&mut self, why: String, file: &str) {
        let (count, files) = self.refused.entry(why).or_default();
        *count += 1;
        if files.last().is_none_or(|last| last != file) {
            files.push(file.to_owned());
        }
    }

    fn group(&mut self, file: &str, dialect: &str, group: &Value) {
        let mut document = group["schema"].clone();
        if let Some(members) = document.as_object_mut() {
            let named = members.entry("$schema");
            named.or_insert_with(|| dialect.into());
        }
        let schema = match Schema::read(document.to_string().as_bytes()) {
            Ok(Linted { schema, .. }) => schema,
            Err(error) => return self.refuse(error.to_string(), file),
        };
        if let Some(why) = schema.quarantine() {
            // The first words say what kind of thing it is.
            let why = why.split([':', '`']).next().unwrap_or_default();
            return self.refuse(why.trim().to_owned(), file);
        }
        for test in group["tests"].as_array().expect("tests") {
            let fits = schema.check(&test["data"]).is_ok();
            let annotation = test["description"].as_str().is_some_and(|test| {
                file == "format" && test.ends_with("is only an annotation by default")
            });
            if json!(fits) == test["valid"] {
                self.right += 1;
            } else if annotation && !fits {
                self.stricter += 1;
            } else {
                let name = [&group["description"], &test["description"]];
                self.wrong.push(format!("{file}: {name:?}: {fits}"));
            }
        }
    }
}

fn check(draft: &str, dialect: &str, expected: &str) {
    let suite = lab::binary::servers("schemas").expect("it is installed");
    let folder = suite.join("tests").join(draft);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    assert!(files.len() > 30, "{files:?}");
    let mut score = Score::default();
    for path in files {
        let file = path.file_stem().expect("a name").to_string_lossy();
        let text = fs::read_to_string(&path).expect("a file");
        let groups: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        for group in &groups {
            score.group(&file, dialect, group);
        }
    }
    let Score {
        right,
        stricter,
        wrong,
        refused,
    } = score;
    let mut said = format!(
        "{right} right, {stricter} stricter, {} wrong\n",
        wrong.len()
    );
    for (why, (count, files)) in &refused {
        writeln!(said, "{count} refused: {why}: {}", files.join(" ")).expect("a string");
    }
    print!("{draft}: {said}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(said, expected);
}

#[test]
fn every_verdict_of_2020_12_is_that_of_the_suite() {
    let dialect = "https://json-schema.org/draft/2020-12/schema";
    let expected = "\
1061 right, 17 stricter, 0 wrong
2 refused: #/format: format
2 refused: `$schema` is neither 2020-12 nor draft-07: vocabulary
2 refused: a schema is an object: boolean_schema
1 refused: json: the number at byte 66 has no exact form: const
61 refused: the schema was not compiled: anchor defs dynamicRef ref refRemote unevaluatedItems unevaluatedProperties
";
    check("draft2020-12", dialect, expected);
}

#[test]
fn every_verdict_of_draft_07_is_that_of_the_suite() {
    let dialect = "http://json-schema.org/draft-07/schema#";
    let expected = "\
808 right, 0 stricter, 0 wrong
2 refused: #/format: format
2 refused: a schema is an object: boolean_schema
1 refused: json: the number at byte 61 has no exact form: const
31 refused: the schema was not compiled: definitions ref refRemote
";
    check("draft7", dialect, expected);
}
