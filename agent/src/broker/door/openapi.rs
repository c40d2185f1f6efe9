//! The `OpenAPI` document of the plain JSON face. What it says of reasons and statuses comes from the
//! tables that answer; `docs/openapi.json` is the same document.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value, json};

use super::challenge;
use crate::broker::reason::Reason;

/// The document as text. Anybody may ask for it, so it is made once.
pub(super) fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    &TEXT
}

/// The document.
#[must_use]
pub fn document() -> Value {
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Stockade broker: plain JSON face",
            "version": "1",
            "description": "Calls to tools for programs without MCP, over the broker's unix socket. \
                            Every call needs an access token bound to a key (RFC 9449) and a proof \
                            of that key; see docs/calling.md.",
            "license": { "name": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "http://localhost", "description": "over /run/stockade/broker.sock" }],
        "security": [{ "dpop": [] }],
        "paths": {
            "/v1/calls": { "post": call() },
            "/v1/openapi.json": { "get": {
                "operationId": "openapi",
                "summary": "This document",
                "security": [],
                "responses": { "200": {
                    "description": "The document",
                    "content": { "application/json": { "schema": { "type": "object" } } },
                } },
            } },
        },
        "components": {
            "securitySchemes": { "dpop": {
                "type": "http",
                "scheme": "dpop",
                "description": "`Authorization: DPoP <token>` beside a `DPoP` header with the proof",
            } },
            "schemas": { "Call": call_schema(), "Result": result_schema(), "Problem": problem_schema() },
            "headers": {
                "DPoP-Nonce": {
                    "description": "The nonce that the next proof must carry",
                    "schema": { "type": "string" },
                },
                "Retry-After": {
                    "description": "Seconds after which to ask again",
                    "schema": { "type": "integer", "minimum": 0 },
                },
                "WWW-Authenticate": {
                    "description": "What is missing (RFC 9449, 7.1)",
                    "schema": { "type": "string" },
                },
            },
        },
    })
}

fn call() -> Value {
    let header = |name: &str, required: bool, description: &str| {
        json!({
            "name": name, "in": "header", "required": required, "description": description,
            "schema": { "type": "string" },
        })
    };
    let mut responses = refusals();
    responses.insert(
        "200".to_owned(),
        json!({
            "description": "The tool's result, recorded. `isError` where the tool says that it failed",
            "headers": { "DPoP-Nonce": { "$ref": "#/components/headers/DPoP-Nonce" } },
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Result" } } },
        }),
    );
    // Said before anything of the body is read.
    responses.insert(
        "415".to_owned(),
        json!({ "description": "The body is not said to be `application/json`" }),
    );
    json!({
        "operationId": "call",
        "summary": "Carries out one call",
        "description": "A caller that closes its connection cancels the call.",
        "parameters": [
            header("DPoP", true, "A proof for `POST` and the broker's resource URI, used once"),
            header("Idempotency-Key", false, "The same key and call get the same answer, once run"),
            header("Stockade-Prompt-Hash", false, "SHA-256 of the prompt, hexadecimal, for the record"),
        ],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Call" } } },
        },
        "responses": responses,
    })
}

/// One response a status, with the reasons that have it.
fn refusals() -> Map<String, Value> {
    let mut by_status: BTreeMap<u16, Vec<Reason>> = BTreeMap::new();
    for reason in Reason::ALL {
        let status = challenge::status(*reason).as_u16();
        by_status.entry(status).or_default().push(*reason);
    }
    by_status
        .into_iter()
        .map(|(status, reasons)| {
            let words: Vec<String> = reasons
                .iter()
                .map(|reason| format!("`{}`: {}", reason.code(), reason.sentence()))
                .collect();
            let mut headers = vec!["DPoP-Nonce"];
            if matches!(status, 401 | 403) {
                headers.push("WWW-Authenticate");
            }
            if matches!(status, 409 | 429 | 503) {
                headers.push("Retry-After");
            }
            let headers: Map<String, Value> = headers
                .into_iter()
                .map(|name| {
                    let place = format!("#/components/headers/{name}");
                    (name.to_owned(), json!({ "$ref": place }))
                })
                .collect();
            let response = json!({
                "description": words.join("; "),
                "headers": headers,
                "content": { "application/problem+json": {
                    "schema": { "$ref": "#/components/schemas/Problem" },
                } },
            });
            (status.to_string(), response)
        })
        .collect()
}

fn call_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["tool", "verb"],
        "properties": {
            "tool": { "type": "string", "maxLength": 63 },
            "verb": { "type": "string", "maxLength": 63 },
            "arguments": { "type": "object", "description": "As the operation's schema has it" },
            "idempotencyKey": { "type": "string", "description": "As the header" },
            "promptHash": { "type": "string", "description": "As the header" },
        },
    })
}

fn result_schema() -> Value {
    json!({
        "type": "object",
        "required": ["content", "structured", "isError", "replayed", "record", "seconds"],
        "properties": {
            "content": {
                "type": "array", "items": { "type": "object" },
                "description": "Content blocks of MCP",
            },
            "structured": { "description": "The structured result, or null" },
            "isError": { "type": "boolean" },
            "replayed": {
                "type": "boolean",
                "description": "Given before, for the same idempotency key",
            },
            "record": { "type": "integer", "description": "Number of the record" },
            "seconds": { "type": "number", "description": "How long the worker took" },
        },
    })
}

fn problem_schema() -> Value {
    let codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    json!({
        "type": "object",
        "required": ["type", "title", "status", "reason"],
        "properties": {
            "type": { "const": "about:blank" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "reason": { "enum": codes },
            "record": { "type": "integer", "description": "Number of the record" },
            "retryAfter": { "type": "integer", "description": "Seconds" },
            "nonce": { "type": "string" },
            "places": {
                "type": "array",
                "description": "Where the arguments do not fit",
                "items": { "type": "object", "properties": {
                    "at": { "type": "string", "description": "JSON pointer (RFC 6901)" },
                    "rule": { "type": "string" },
                } },
            },
        },
    })
}
