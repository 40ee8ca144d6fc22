// Command ask makes the calls of tests/clients/calls.py: ask BUNDLE. Each line of the input is a call, each line of the
// output its answers or its error. What Go's types cannot express is no error, but says so.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"mtaw"
)

type lists struct{ Exclude, Allow []any }

type options struct {
	K                    int
	At                   *int64
	ExcludeSeen, Reasons bool
	Exclude, Allow       []any
	Filter               *json.RawMessage
	Rules                *json.RawMessage
	Context              map[string]string
	Types                []*string
	By                   string
	Placement, SessionID string
}

type event struct {
	Session, Type, ID string
	Item              any
	Time              int64
	Context           map[string]string
}

type call struct {
	Call     string
	Session  []any
	Sessions [][]any
	Item     any
	Folder   string
	Events   []event
	Options  json.RawMessage
	Raw      bool
}

type opening struct{ Verify, Map *bool }

// errTypes is of a call that cannot be written in Go.
type errTypes struct{ error }

func main() {
	shop, err := mtaw.Open(os.Args[1], nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	asker := &asker{shop, map[string]*mtaw.Filter{}, map[string]*mtaw.Rules{}}
	input, output := bufio.NewScanner(os.Stdin), bufio.NewWriter(os.Stdout)
	input.Buffer(nil, 1<<24)
	encoder := json.NewEncoder(output)
	for input.Scan() {
		answers, err := asker.ask(input.Bytes())
		found := map[string]any{"answers": answers}
		var failure *mtaw.Error
		var types errTypes
		if errors.As(err, &types) {
			found = map[string]any{"types": types.Error()}
		} else if errors.As(err, &failure) {
			found = map[string]any{"error": failure.Message, "status": failure.Status}
		} else if err != nil {
			found = map[string]any{"thrown": err.Error()}
		}
		if err := encoder.Encode(found); err != nil {
			panic(err)
		}
	}
	output.Flush()
}

type asker struct {
	shop    *mtaw.Recommender
	filters map[string]*mtaw.Filter
	rules   map[string]*mtaw.Rules
}

func (a *asker) ask(line []byte) ([]any, error) {
	var asked call
	if err := strict(line, &asked); err != nil {
		return nil, err
	}
	if asked.Call == "open" {
		return []any{}, open(asked)
	}
	if asked.Raw {
		return nil, errTypes{errors.New("no *Filter or *Rules")}
	}
	given, by, err := a.options(asked.Options)
	if err != nil {
		return nil, err
	}
	session, err := idsOf(asked.Session)
	if err != nil {
		return nil, err
	}
	answers := []*mtaw.Answer{nil}
	switch asked.Call {
	case "recommend":
		answers[0], err = a.shop.Recommend(session, given)
	case "session":
		answers[0], err = a.grown(session, given)
	case "batch":
		sessions := make([][]mtaw.ID, len(asked.Sessions))
		for i := range sessions {
			if sessions[i], err = idsOf(asked.Sessions[i]); err != nil {
				return nil, err
			}
		}
		answers, err = a.shop.RecommendBatch(sessions, given)
	case "similar":
		var items []mtaw.ID
		if items, err = idsOf([]any{asked.Item}); err == nil {
			answers[0], err = a.shop.Similar(items[0], by, given)
		}
	case "log":
		return []any{}, logged(asked)
	case "info":
		info, err := a.shop.Info()
		return []any{info}, err
	}
	if err != nil {
		return nil, err
	}
	return plain(answers), nil
}

func open(asked call) error {
	var given opening
	if err := strict(asked.Options, &given); err != nil {
		return err
	}
	shop, err := mtaw.Open(asked.Folder, &mtaw.OpenOptions{NoVerify: given.Verify != nil && !*given.Verify, Map: given.Map != nil && *given.Map})
	if err == nil {
		shop.Close()
	}
	return err
}

func logged(asked call) error {
	events, err := mtaw.OpenLog(asked.Folder, true)
	if err != nil {
		return err
	}
	defer events.Close()
	for _, one := range asked.Events {
		item, err := idsOf([]any{one.Item})
		if err != nil {
			return err
		}
		event := mtaw.Event{Session: one.Session, Item: item[0], Type: one.Type, ID: one.ID, Context: one.Context}
		if one.Time != 0 {
			event.Time = time.UnixMilli(one.Time)
		}
		if _, err := events.Append(event); err != nil {
			return err
		}
	}
	return nil
}

func (a *asker) grown(session []mtaw.ID, given *mtaw.Options) (*mtaw.Answer, error) {
	visit, err := a.shop.NewSession()
	if err != nil {
		return nil, err
	}
	defer visit.Close()
	half := len(session) / 2
	early := *given
	if early.Types != nil {
		early.Types = early.Types[:half]
	}
	if err := visit.Click(session[:half]...); err != nil {
		return nil, err
	}
	if _, err := visit.Recommend(&early); err != nil {
		return nil, err
	}
	if err := visit.Click(session[half:]...); err != nil {
		return nil, err
	}
	return visit.Recommend(given)
}

func (a *asker) options(text json.RawMessage) (*mtaw.Options, mtaw.By, error) {
	var asked options
	if err := strict(text, &asked); err != nil {
		return nil, 0, err
	}
	by, known := map[string]mtaw.By{"": mtaw.ByVectors, "vectors": mtaw.ByVectors, "sessions": mtaw.BySessions}[asked.By]
	if !known {
		by = 7
	}
	given := &mtaw.Options{K: asked.K, ExcludeSeen: asked.ExcludeSeen, Reasons: asked.Reasons, Context: asked.Context}
	given.Placement, given.SessionID = asked.Placement, asked.SessionID
	if bytes.Contains(text, []byte(`"k": 0`)) {
		given.K = -1 // 0 is Go's default
	}
	if asked.At != nil {
		given.At = time.UnixMilli(*asked.At)
	}
	var err error
	if given.Exclude, err = idsOf(asked.Exclude); err != nil {
		return nil, 0, err
	}
	if given.Allow, err = idsOf(asked.Allow); err != nil {
		return nil, 0, err
	}
	if asked.Types != nil {
		given.Types = make([]string, len(asked.Types))
		for i, name := range asked.Types {
			if name != nil {
				given.Types[i] = *name
			}
		}
	}
	if asked.Filter != nil {
		if given.Filter, err = a.filter(*asked.Filter); err != nil {
			return nil, 0, err
		}
	}
	if asked.Rules != nil {
		given.Rules, err = a.ruled(*asked.Rules)
	}
	return given, by, err
}

func (a *asker) filter(text json.RawMessage) (*mtaw.Filter, error) {
	if made := a.filters[string(text)]; made != nil {
		return made, nil
	}
	var asked lists
	if err := strict(text, &asked); err != nil {
		return nil, err
	}
	exclude, err := idsOf(asked.Exclude)
	if err != nil {
		return nil, err
	}
	allow, err := idsOf(asked.Allow)
	if err != nil {
		return nil, err
	}
	made, err := a.shop.NewFilter(exclude, allow)
	a.filters[string(text)] = made
	return made, err
}

func (a *asker) ruled(text json.RawMessage) (*mtaw.Rules, error) {
	if made := a.rules[string(text)]; made != nil {
		return made, nil
	}
	var name string
	var given any = text
	if json.Unmarshal(text, &name) == nil {
		given = name
	}
	made, err := a.shop.NewRules(given)
	a.rules[string(text)] = made
	return made, err
}

// strict reads JSON into the types of Go, which a program would have written.
func strict(text []byte, into any) error {
	if text == nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return errTypes{err}
	}
	return nil
}

func idsOf(values []any) ([]mtaw.ID, error) {
	if values == nil {
		return nil, nil
	}
	ids := make([]mtaw.ID, len(values))
	for i, value := range values {
		switch value := value.(type) {
		case string:
			ids[i] = mtaw.Text(value)
		case json.Number:
			number, err := value.Int64()
			if err != nil {
				return nil, errTypes{err}
			}
			ids[i] = mtaw.Number(number)
		default:
			return nil, errTypes{fmt.Errorf("%v is no ID", value)}
		}
	}
	return ids, nil
}

func plain(answers []*mtaw.Answer) []any {
	texts := func(ids []mtaw.ID) []any {
		values := make([]any, len(ids))
		for i, id := range ids {
			values[i] = id.String()
			if number, is := id.Int64(); is {
				values[i] = number
			}
		}
		return values
	}
	found := make([]any, len(answers))
	for i, answer := range answers {
		bits := make([]uint32, len(answer.Scores))
		for j, score := range answer.Scores {
			bits[j] = math.Float32bits(score)
		}
		shown := map[string]any{
			"items": texts(answer.Items), "bits": bits, "unknown": append([]int{}, answer.Unknown...),
			"fallback": answer.Fallback, "short": answer.Short,
		}
		if answer.RuleSet != "" {
			shown["ruleSet"] = answer.RuleSet
		}
		if answer.Reasons != nil {
			reasons := []any{}
			for _, reason := range answer.Reasons {
				one := map[string]any{"kind": [...]string{"session", "together", "encoder"}[reason.Kind], "items": texts(reason.Items)}
				if reason.Rule != mtaw.Unchanged {
					one["rule"] = [...]string{"", "boosted", "buried", "pinned"}[reason.Rule]
				}
				reasons = append(reasons, one)
			}
			shown["reasons"] = reasons
		}
		found[i] = shown
	}
	return found
}
