"""Let Go itself fill in the templates of unit/data/templates/cases.json, and write down what came out.

Needs Go and its module proxy: the functions are those of Docker's own client. Then read the diff.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).parent / "unit" / "data" / "templates"
CLIENT: Final = "github.com/docker/cli v28.2.2+incompatible"
PROGRAM: Final = """
package main

import (
	"bytes"
	"encoding/json"
	"os"

	"github.com/docker/cli/templates"
)

type group struct {
	Data      any      `json:"data"`
	Templates []string `json:"templates"`
}

type fact struct {
	Template string `json:"template"`
	Output   string `json:"output"`
	Error    string `json:"error"`
}

// typed gives JSON the types that Docker's structs have: ints, slices of strings, maps of strings.
func typed(value any, maps bool) any {
	switch value := value.(type) {
	case json.Number:
		if number, err := value.Int64(); err == nil {
			return int(number)
		}
		number, _ := value.Float64()
		return number
	case []any:
		texts := make([]string, 0, len(value))
		for index, item := range value {
			if text, ok := item.(string); ok {
				texts = append(texts, text)
			}
			value[index] = typed(item, maps)
		}
		if len(value) > 0 && len(texts) == len(value) {
			return texts
		}
	case map[string]any:
		texts := map[string]string{}
		for key, item := range value {
			if text, ok := item.(string); ok {
				texts[key] = text
			}
			value[key] = typed(item, maps)
		}
		if maps && len(texts) == len(value) {
			return texts
		}
	}
	return value
}

func main() {
	groups := map[string]*group{}
	decoder := json.NewDecoder(os.Stdin)
	decoder.UseNumber()
	if err := decoder.Decode(&groups); err != nil {
		panic(err)
	}
	facts := map[string][]fact{}
	for name, group := range groups {
		data := typed(group.Data, name == "maps")
		for _, text := range group.Templates {
			found := fact{Template: text}
			parsed, err := templates.Parse(text)
			if err == nil {
				if name == "objects" {
					parsed.Option("missingkey=error")
				}
				out := &bytes.Buffer{}
				err = parsed.Execute(out, data)
				found.Output = out.String()
			}
			if err != nil {
				found.Error, found.Output = err.Error(), ""
			}
			facts[name] = append(facts[name], found)
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetIndent("", " ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(facts); err != nil {
		panic(err)
	}
}
"""


def main() -> None:
    """Record every case."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "go.mod").write_text(f"module record\n\ngo 1.23\n\nrequire {CLIENT}\n")
        Path(directory, "main.go").write_text(PROGRAM)
        command = ["go", "run", "-mod=mod", "."]
        found = subprocess.run(command, cwd=directory, input=(DATA / "cases.json").read_bytes(), stdout=-1, check=True)
    facts = json.loads(found.stdout)
    (DATA / "facts.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    print({name: len(recorded) for name, recorded in facts.items()})


if __name__ == "__main__":
    main()
