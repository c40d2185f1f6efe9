//! The two dialects, and which keyword holds what in each. A homogeneous table beside one look-up.

use serde_json::Value;

/// A dialect of JSON Schema.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Draft {
    /// 2020-12: also where a schema does not say.
    New,
    /// draft-07.
    Old,
}

impl Draft {
    /// The dialect that a document names; `None` for another one.
    pub(super) fn of(document: &Value) -> Option<Self> {
        let Some(named) = document.get("$schema") else {
            return Some(Self::New);
        };
        let named = named.as_str()?.trim_end_matches('#');
        match named
            .strip_prefix("https://")
            .or(named.strip_prefix("http://"))?
        {
            "json-schema.org/draft/2020-12/schema" => Some(Self::New),
            "json-schema.org/draft-07/schema" => Some(Self::Old),
            _ => None,
        }
    }

    /// Its name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "2020-12",
            Self::Old => "draft-07",
        }
    }

    pub(super) const fn library(self) -> jsonschema::Draft {
        match self {
            Self::New => jsonschema::Draft::Draft202012,
            Self::Old => jsonschema::Draft::Draft7,
        }
    }

    /// What a keyword holds, where this dialect has it.
    pub(super) fn keyword(self, name: &str) -> Option<Holds> {
        KEYWORDS
            .iter()
            .find(|(keyword, _, drafts)| *keyword == name && drafts.has(self))
            .map(|(_, holds, _)| *holds)
    }

    /// All keywords of the dialect.
    pub(super) fn keywords(self) -> impl Iterator<Item = &'static str> {
        KEYWORDS
            .iter()
            .filter(move |(_, _, drafts)| drafts.has(self))
            .map(|(keyword, _, _)| *keyword)
    }
}

/// What a keyword holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holds {
    /// Words for people: constrains nothing.
    Words,
    /// Something that constrains and holds no schema.
    Data,
    /// One schema about the same value.
    Here,
    /// A list of them.
    HereList,
    /// Schemas about the same value, by name.
    HereMap,
    /// One schema about a part of the value.
    Below,
    /// A list of them.
    BelowList,
    /// Schemas about parts, by name.
    BelowMap,
    /// One or a list.
    BelowAny,
    /// Schemas that apply only where something refers to them.
    Shelf,
    /// A reference.
    Reference,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum In {
    Both,
    New,
    Old,
}

impl In {
    fn has(self, draft: Draft) -> bool {
        matches!(
            (self, draft),
            (Self::Both, _) | (Self::New, Draft::New) | (Self::Old, Draft::Old)
        )
    }
}

const KEYWORDS: &[(&str, Holds, In)] = &[
    ("$comment", Holds::Words, In::Both),
    ("$defs", Holds::Shelf, In::Both),
    ("$id", Holds::Words, In::Both),
    ("$ref", Holds::Reference, In::Both),
    ("$schema", Holds::Words, In::Both),
    ("additionalItems", Holds::Below, In::Old),
    ("additionalProperties", Holds::Below, In::Both),
    ("allOf", Holds::HereList, In::Both),
    ("anyOf", Holds::HereList, In::Both),
    ("const", Holds::Data, In::Both),
    ("contains", Holds::Below, In::Both),
    ("contentEncoding", Holds::Data, In::Both),
    ("contentMediaType", Holds::Data, In::Both),
    ("default", Holds::Words, In::Both),
    ("definitions", Holds::Shelf, In::Both),
    ("dependencies", Holds::HereMap, In::Old),
    ("dependentRequired", Holds::Data, In::New),
    ("dependentSchemas", Holds::HereMap, In::New),
    ("deprecated", Holds::Words, In::New),
    ("description", Holds::Words, In::Both),
    ("else", Holds::Here, In::Both),
    ("enum", Holds::Data, In::Both),
    ("examples", Holds::Words, In::Both),
    ("exclusiveMaximum", Holds::Data, In::Both),
    ("exclusiveMinimum", Holds::Data, In::Both),
    ("format", Holds::Data, In::Both),
    ("if", Holds::Here, In::Both),
    ("items", Holds::BelowAny, In::Old),
    ("items", Holds::Below, In::New),
    ("maxContains", Holds::Data, In::New),
    ("maxItems", Holds::Data, In::Both),
    ("maxLength", Holds::Data, In::Both),
    ("maxProperties", Holds::Data, In::Both),
    ("maximum", Holds::Data, In::Both),
    ("minContains", Holds::Data, In::New),
    ("minItems", Holds::Data, In::Both),
    ("minLength", Holds::Data, In::Both),
    ("minProperties", Holds::Data, In::Both),
    ("minimum", Holds::Data, In::Both),
    ("multipleOf", Holds::Data, In::Both),
    ("not", Holds::Here, In::Both),
    ("oneOf", Holds::HereList, In::Both),
    ("pattern", Holds::Data, In::Both),
    ("patternProperties", Holds::BelowMap, In::Both),
    ("prefixItems", Holds::BelowList, In::New),
    ("properties", Holds::BelowMap, In::Both),
    ("propertyNames", Holds::Below, In::Both),
    ("readOnly", Holds::Words, In::Both),
    ("required", Holds::Data, In::Both),
    ("then", Holds::Here, In::Both),
    ("title", Holds::Words, In::Both),
    ("type", Holds::Data, In::Both),
    ("unevaluatedItems", Holds::Below, In::New),
    ("unevaluatedProperties", Holds::Below, In::New),
    ("uniqueItems", Holds::Data, In::Both),
    ("writeOnly", Holds::Words, In::Both),
];
