//! Fields that somebody wrote into an object and that its kind does not have.
//!
//! Pure. They are found by what is lost between the text and the type, so no list of fields is kept.

use serde_json::Value;

/// More in one object are not looked for: each is looked up in its text.
const MAX: usize = 20;

/// Paths in `written` that `understood` lost, as `spec.ports[0].port`; nulls and empty values carry
/// nothing to lose.
pub(super) fn fields(written: &Value, understood: &Value) -> Vec<String> {
    let mut lost = Vec::new();
    compare(written, understood, "", &mut lost);
    lost
}

fn compare(written: &Value, understood: &Value, path: &str, lost: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                match understood.get(key) {
                    Some(understood) => compare(value, understood, &path, lost),
                    None if is_empty(value) || path == "status" => {}
                    None if lost.len() < MAX => lost.push(path),
                    None => return,
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            for (index, (value, understood)) in written.iter().zip(understood).enumerate() {
                compare(value, understood, &format!("{path}[{index}]"), lost);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_lost_is_found_where_it_was() {
        let written = json!({
            "spec": {"ports": [{"port": 1}, {"prot": 2}], "selctor": {"app": "web"}, "none": null},
            "status": {"x": 1},
        });
        let understood = json!({"spec": {"ports": [{"port": 1}, {"port": 0}]}});
        let lost = fields(&written, &understood);
        assert_eq!(lost, ["spec.ports[1].prot", "spec.selctor"]);
    }

    #[test]
    fn not_everything_is_looked_for() {
        let many = (0..1000).map(|n| (format!("f{n}"), json!(n)));
        let written = Value::Object(many.collect());
        assert_eq!(fields(&written, &json!({})).len(), MAX);
    }
}
