package mtaw

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// MTAW_BUNDLE names a bundle with text ids; tests/clients/test_clients.py makes one.
func TestTextsWithZerosAreRefused(t *testing.T) {
	shop, err := Open(os.Getenv("MTAW_BUNDLE"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer shop.Close()
	events, err := OpenLog(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	append := func(event Event) error {
		_, err := events.Append(Event{Session: "s", Item: Text("sku-1")}, event)
		return err
	}
	item := Text("sku-1")
	calls := map[string]func() error{
		"folder":          func() error { _, err := Open("a\x00b", nil); return err },
		"folder of a log": func() error { _, err := OpenLog("a\x00b", true); return err },
		"context": func() error {
			_, err := shop.Recommend([]ID{item}, &Options{Context: map[string]string{"a": "b\x00c"}})
			return err
		},
		"placement":         func() error { _, err := shop.Recommend([]ID{item}, &Options{Placement: "a\x00"}); return err },
		"session id":        func() error { _, err := shop.Recommend([]ID{item}, &Options{SessionID: "a\x00"}); return err },
		"session":           func() error { return append(Event{Session: "s\x00t", Item: item}) },
		"type of a click":   func() error { _, err := shop.Recommend([]ID{item}, &Options{Types: []string{"a\x00"}}); return err },
		"type":              func() error { return append(Event{Session: "s", Item: item, Type: "view\x00"}) },
		"id":                func() error { return append(Event{Session: "s", Item: item, ID: "\x001"}) },
		"event's context":   func() error { return append(Event{Session: "s", Item: item, Context: map[string]string{"a\x00": "b"}}) },
		"forgotten session": func() error { _, err := events.Forget("s\x00t"); return err },
	}
	for name, call := range calls {
		var failure *Error
		if err := call(); !errors.As(err, &failure) || failure.Status != StatusUsage || !strings.Contains(failure.Message, "zero byte") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsClosedAndWhatIsNoRules(t *testing.T) {
	shop, err := Open(os.Getenv("MTAW_BUNDLE"), nil)
	if err != nil {
		t.Fatal(err)
	}
	visit, err := shop.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	rules, err := shop.NewRules(map[string]any{"pin": map[string]int{"sku-2": 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []any{nil, []byte("{}"), func() {}, 5} {
		var failure *Error
		if _, err := shop.NewRules(wrong); !errors.As(err, &failure) || failure.Status != StatusUsage {
			t.Errorf("%T: %v", wrong, err)
		}
	}
	rules.Close()
	if _, err := shop.Recommend(nil, &Options{Rules: rules}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed rules: %v", err)
	}
	shop.Close()
	shop.Close()
	if _, err := shop.Recommend(nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed recommender: %v", err)
	}
	if answer, err := visit.Recommend(nil); err != nil || len(answer.Items) != 20 {
		t.Errorf("a session of a closed recommender: %v", err)
	}
}
