//! Lists and documents as people and kubectl write them, and their mistakes.

use super::*;

/// Where each object stands, and what it is called.
fn heads(text: &str) -> Vec<(usize, String)> {
    let documents = documents(text).map(|document| document.expect("an object"));
    let head = |document: Document<'_>| {
        let name = document.head.metadata.name.clone().unwrap_or_default();
        (document.line("kind"), name)
    };
    documents.map(head).collect()
}

#[derive(Debug, Deserialize)]
struct Measured {
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Spec {
    size: u16,
}

/// The mistakes of a file, of its objects' sizes, too.
fn mistakes(text: &str) -> Vec<String> {
    let sizes = documents(text).map(|document| document?.parse::<Measured>());
    let errors = sizes.filter_map(|size| size.map(|it| it.spec.size).err());
    errors.map(|error| error.to_string()).collect()
}

/// As kubectl writes it.
const LIST: &str = "\
apiVersion: v1
items:
- apiVersion: v1
  kind: A
  metadata:
    annotations:
      # nor is this the end of it
      text: |
        - no: item

        kind: none
    name: a
  spec:
    size: 1
# between
- kind: B
  metadata: {name: b}
  spec: {size: 2}
-
  kind: C
  metadata:
    name: c
  spec:
    size: 3
kind: List
metadata:
  resourceVersion: \"\"
";

#[test]
fn the_items_of_a_list_are_documents() {
    let want = [(4, "a"), (16, "b"), (20, "c")];
    assert_eq!(heads(LIST), want.map(|(line, name)| (line, name.into())));
    assert_eq!(mistakes(LIST), [""; 0]);
    let kinds = LIST.replace("kind: List", "kind: ThingList");
    assert_eq!(heads(&kinds).len(), 3);
    let nobodys = "kind: AllowList\nmetadata: {name: mine}\n";
    assert_eq!(heads(nobodys), [(1, "mine".to_owned())]);
    assert_eq!(heads("kind: List\nitems: []\n"), []);
}

#[test]
fn a_mistake_in_an_item_has_its_own_line_and_field() {
    let text = LIST.replace("size: 3", "size: big");
    let text = format!(
        "kind: X\nspec: {{size: 0}}\n---\n{}",
        text.replace("size: 1", "size: -1")
    );
    let mistakes = mistakes(&text);
    let want = [
        "line 17: items[0].spec.size: ",
        "line 27: items[2].spec.size: ",
    ];
    assert_eq!(mistakes.len(), want.len(), "{mistakes:?}");
    for (mistake, want) in mistakes.iter().zip(want) {
        assert!(mistake.starts_with(want), "{mistake}");
    }
    assert!(mistakes[1].ends_with(": `size: big`"), "{mistakes:?}");
    let nameless = documents(LIST).next().expect("an item").expect("an object");
    let missing = nameless.error("spec.colour", "missing");
    assert_eq!(
        missing.to_string(),
        "line 13: items[0].spec.colour: missing"
    );
}

#[test]
fn lists_in_json_and_in_lists() {
    let json = "\
{
    \"kind\": \"List\",
    \"items\": [
        {
            \"kind\": \"A\",
            \"metadata\": {
                \"name\": \"a\"
            },
            \"spec\": {
                \"size\": 1
            }
        },
        {
            \"kind\": \"B\",
            \"metadata\": {\"name\": \"b\"},
            \"spec\": {
                \"size\": \"big\"
            }
        }
    ]
}
";
    let want = [(5, "a"), (14, "b")];
    assert_eq!(heads(json), want.map(|(line, name)| (line, name.into())));
    let mistakes = mistakes(json);
    assert!(
        mistakes[0].starts_with("line 17: items[1].spec.size: "),
        "{mistakes:?}"
    );
    let nested =
        "kind: List\nitems:\n- kind: List\n  items:\n  - kind: A\n    metadata: {}\n    spec: {}\n";
    let error = documents(nested)
        .next()
        .expect("an item")
        .expect("an object");
    let error = error.error("metadata.name", "missing").to_string();
    assert_eq!(error, "line 6: items[0].items[0].metadata.name: missing");
}

#[test]
fn what_cannot_be_cut_out_is_read_all_the_same() {
    let table = [
        // One line.
        "{kind: List, items: [{kind: A, metadata: {name: a}, spec: {size: 1}}, \
         {kind: B, metadata: {name: b}, spec: {size: big}}]}\n",
        // Written elsewhere.
        "kind: List\nitems:\n- kind: A\n  metadata: {name: a}\n  spec: &spec {size: 1}\n\
         - kind: B\n  metadata: {name: b}\n  spec: {<<: *spec, size: big}\n",
    ];
    for text in table {
        let names: Vec<_> = heads(text).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["a", "b"], "{text}");
        let mistakes = mistakes(text);
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].contains(": items[1]"), "{mistakes:?}");
    }
}

#[test]
fn an_item_that_is_no_object_does_not_hide_others() {
    let text =
        "kind: List\nitems:\n- a\n- {}\n- kind: C\n  metadata: {name: c}\n---\n- b\n---\nkind: D\n";
    let (objects, errors): (Vec<_>, Vec<_>) = documents(text).partition(Result::is_ok);
    assert_eq!(objects.len(), 2);
    let errors: Vec<_> = errors.into_iter().filter_map(Result::err).collect();
    let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [Some(3), Some(4), Some(8)], "{errors:?}");
    assert!(errors[0].problem.contains("mapping"), "{errors:?}");
}

#[test]
fn anchors_that_amount_to_too_much_are_told_in_words() {
    let mut bomb = "kind: A\na0: &a0 [x, x]\n".to_owned();
    for level in 1..40 {
        bomb += &format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
    }
    let deep = format!("kind: A\na: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    for (text, words) in [
        ("kind: A\na: &a {b: *a}\n", "contains its own alias"),
        (&bomb, "too large or nested too deeply"),
        (&deep, ": nested too deeply"),
    ] {
        let mistakes = mistakes(text);
        assert!(mistakes[0].contains(words), "{mistakes:?}");
        assert!(
            !mistakes[0].contains(['{', '}']) || text.len() < 50,
            "{mistakes:?}"
        );
    }
}
