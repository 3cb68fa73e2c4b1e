//! Templates in, text or mistakes out.

use super::*;

fn render_with(template: &str, data: &Value) -> Result<String, Vec<String>> {
    let env = |name: &str| match name {
        "HOST" => Some("app.test".to_owned()),
        "N" => Some("3".to_owned()),
        _ => None,
    };
    let source = Source::new("t.yml", template);
    match render(&source, data, &env) {
        Ok(rendered) => Ok(rendered.map_or_else(|| template.to_owned(), |rendered| rendered.text)),
        Err(wrong) => Err(wrong.iter().map(ToString::to_string).collect()),
    }
}

fn rendered(template: &str) -> String {
    render_with(template, &Value::Nil).expect(template)
}

fn wrong(template: &str) -> Vec<String> {
    render_with(template, &Value::Nil).expect_err(template)
}

#[test]
fn actions_pipes_and_blocks() {
    for (template, expected) in [
        ("plain", "plain"),
        (r#"a: {{ env "HOST" }}!"#, "a: app.test!"),
        (r#"{{env "NONE" | default "x" | upper}}"#, "X"),
        (r#"{{ printf "%s:%d" (env "HOST") 80 }}"#, "app.test:80"),
        (
            r#"{{ if eq (env "HOST") "app.test" }}y{{ else }}n{{ end }}"#,
            "y",
        ),
        (
            r#"{{ if env "NONE" }}a{{ else if env "HOST" }}b{{ else }}c{{ end }}"#,
            "b",
        ),
        (
            r#"{{ $h := env "HOST" }}{{ $h }}/{{ $h | replace "." "-" }}"#,
            "app.test/app-test",
        ),
        (
            "{{ range $i, $e := list `a` `b` }}{{ $i }}={{ $e }};{{ end }}",
            "0=a;1=b;",
        ),
        (
            r#"{{ range until (env "N" | int) }}{{ . }}{{ end }}"#,
            "012",
        ),
        ("{{ range list }}x{{ else }}none{{ end }}", "none"),
        (r#"{{ with env "HOST" }}[{{ . }}]{{ end }}"#, "[app.test]"),
        ("a\n{{- /* gone */ -}}\nb", "ab"),
        (r#"{{ "}}" }}{{ `{{` }}"#, "}}{{"),
        (r#"{{ (split "." (env "HOST"))._0 }}"#, "app"),
        (r#"{{ index (splitList "." (env "HOST")) 1 }}"#, "test"),
        (
            r#"{{ "x" | b64enc }} {{ join "," (list 1 2) }} {{ len "abc" }}"#,
            "eA== 1,2 3",
        ),
        (
            "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}",
            "2",
        ),
        ("{{ not true }} {{ and 1 0 }} {{ or 0 2 }}", "false 0 2"),
        (r#"{{ normalize "/a_b.c" }}"#, "a-b-c"),
    ] {
        assert_eq!(rendered(template), expected, "{template}");
    }
    let data = Value::Map([("Name".to_owned(), Value::from("web"))].into());
    assert_eq!(
        render_with("Host(`{{ .Name }}`) {{ .Gone }}", &data).unwrap(),
        "Host(`web`) <no value>"
    );
}

#[test]
fn mistakes_have_places() {
    assert_eq!(
        wrong("a: 1\nb: {{ envv \"X\" }}\nc: {{ lowr . }}"),
        [
            "t.yml:2:7: error: template: unknown function `envv` (did you mean `env`?)",
            "t.yml:3:7: error: template: unknown function `lowr` (did you mean `lower`?)",
        ]
    );
    for (template, expected) in [
        ("\n {{ env", "t.yml:2:2: error: template: `{{` without `}}`"),
        (
            "{{ if true }}x",
            "t.yml:1:4: error: template: this block has no `{{ end }}`",
        ),
        (
            "{{ end }}",
            "t.yml:1:4: error: template: `end` without `if`, `with` or `range`",
        ),
        (
            "{{ $x }}",
            "t.yml:1:4: error: template: the variable `$x` is not declared",
        ),
        (
            "{{ env }}",
            "t.yml:1:4: error: template: `env` needs 1 arguments, found 0",
        ),
        ("{{ \"a }}", "t.yml:1:1: error: template: `{{` without `}}`"),
        (
            "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}",
            "t.yml:1:34: error: template: more than 1000000 steps",
        ),
    ] {
        assert_eq!(wrong(template), [expected], "{template}");
    }
}
