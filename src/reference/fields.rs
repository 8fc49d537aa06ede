//! Tables of fields from a JSON Schema, or from the like of it that CRDs have.

use std::fmt::Write as _;

use serde_json::Value;

/// Deepest nesting that is followed: a schema may refer to itself.
const DEEPEST: usize = 8;

/// One line for each field, with its path. `only` are the fields at the top that count; all where it is empty.
pub fn table(root: &Value, schema: &Value, only: &[&str]) -> String {
    let mut text = "| field | type | meaning |\n|---|---|---|\n".to_owned();
    for (name, field, required) in properties(root, schema) {
        if only.is_empty() || only.contains(&name.as_str()) {
            rows(root, &name, &field, required, 0, &mut text);
        }
    }
    text
}

fn rows(root: &Value, path: &str, field: &Value, required: bool, depth: usize, text: &mut String) {
    let field = resolve(root, field);
    let items = resolve(root, &field["items"]);
    let meaning = field["description"].as_str().or(items["description"].as_str()).unwrap_or_default();
    let mut meaning = meaning.replace('\n', " ").replace('|', "\\|");
    for choice in choices(&field).chain(choices(&items)) {
        meaning += &choice;
    }
    let required = if required { ", required" } else { "" };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| `{path}` | {}{required} | {} |", kind(&field, &items), meaning.trim());
    if depth == DEEPEST {
        return;
    }
    let (inner, path) = if items.is_object() { (&items, format!("{path}[]")) } else { (&field, path.to_owned()) };
    for (name, field, required) in properties(root, inner) {
        rows(root, &format!("{path}.{name}"), &field, required, depth + 1, text);
    }
}

/// Values that a field may have, each with its meaning.
fn choices(field: &Value) -> impl Iterator<Item = String> {
    let described = field["oneOf"].as_array().into_iter().flatten().filter_map(|choice| {
        let (value, meaning) = (choice["const"].as_str()?, choice["description"].as_str().unwrap_or_default());
        Some(format!(" `{value}`: {meaning}"))
    });
    let plain = field["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    described.chain(plain.map(|value| format!(" `{value}`"))).collect::<Vec<_>>().into_iter()
}

fn properties(root: &Value, schema: &Value) -> Vec<(String, Value, bool)> {
    let schema = resolve(root, schema);
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let fields = schema["properties"].as_object().into_iter().flatten();
    fields.map(|(name, field)| (name.clone(), field.clone(), required.contains(&name.as_str()))).collect()
}

/// The schema behind a reference, or behind the optional form of one; its own description goes before that of the type.
fn resolve(root: &Value, field: &Value) -> Value {
    let alternatives = field["anyOf"].as_array().into_iter().flatten();
    let reference = field["$ref"].as_str().or_else(|| alternatives.filter_map(|one| one["$ref"].as_str()).next());
    let Some(name) = reference.and_then(|reference| reference.strip_prefix("#/$defs/")) else { return field.clone() };
    let mut found = root["$defs"][name].clone();
    if let Some(description) = field.get("description") {
        found["description"] = description.clone();
    }
    found
}

fn kind(field: &Value, items: &Value) -> String {
    let name = |value: &Value| {
        let types = match &value["type"] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(many) => many.iter().filter_map(Value::as_str).filter(|one| *one != "null").collect(),
            _ if value["oneOf"].is_array() || value["enum"].is_array() => vec!["string"],
            _ => vec!["value"],
        };
        types.join(" or ")
    };
    if items.is_object() { format!("list of {}s", name(items)) } else { name(field) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_fields_have_paths_and_references_are_followed() {
        let schema = json!({
            "properties": {
                "name": { "type": "string", "description": "Who\nit is." },
                "kind": { "$ref": "#/$defs/Kind", "description": "What it is." },
                "ports": { "type": "array", "items": { "$ref": "#/$defs/Port" }, "description": "Its ports." },
                "size": { "type": ["integer", "null"] },
            },
            "required": ["name"],
            "$defs": {
                "Kind": { "oneOf": [{ "const": "a", "description": "One." }, { "const": "b", "description": "Two." }] },
                "Port": { "type": "object", "properties": { "port": { "type": "integer" } }, "required": ["port"] },
            },
        });
        assert_eq!(
            table(&schema, &schema, &[]),
            "| field | type | meaning |\n|---|---|---|\n\
             | `kind` | string | What it is. `a`: One. `b`: Two. |\n\
             | `name` | string, required | Who it is. |\n\
             | `ports` | list of objects | Its ports. |\n\
             | `ports[].port` | integer, required |  |\n\
             | `size` | integer |  |\n"
        );
    }
}
