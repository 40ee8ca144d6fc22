// Package mtaw ranks the next items of a session with an mtaw_fast bundle. It is a client of libmtaw, which it links.
//
//	shop, err := mtaw.Open("shop.bundle", nil)
//	if err != nil { .. }
//	defer shop.Close()
//	answer, err := shop.Recommend(mtaw.Texts("sku-9", "sku-4"), &mtaw.Options{K: 10})
//
// Answers equal those of the Python package to the bit. All types are safe for concurrent use.
package mtaw

/*
#cgo LDFLAGS: -lmtaw
#include <mtaw.h>
#include <stdlib.h>
*/
import "C"

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// Status says what kind of error a call had.
type Status int

// The statuses of mtaw.h.
const (
	StatusUsage    Status = C.MTAW_USAGE
	StatusBundle   Status = C.MTAW_BUNDLE
	StatusLog      Status = C.MTAW_LOG
	StatusNoMemory Status = C.MTAW_NO_MEMORY
	StatusInternal Status = C.MTAW_INTERNAL
)

// Error is what a failed call returns: one line that says what is wrong, where, and what to do.
type Error struct {
	Status  Status
	Message string
}

func (e *Error) Error() string { return "mtaw: " + e.Message }

// ErrClosed is returned by calls on something that was closed.
var ErrClosed = errors.New("mtaw: it is closed")

// sameABI returns an error if the library that was loaded is not the one of the header.
func sameABI() error {
	if abi := C.mtaw_abi(); abi != C.MTAW_ABI {
		return &Error{StatusUsage, fmt.Sprintf("libmtaw has MTAW_ABI %d, this client needs %d; use those of one release", abi, C.MTAW_ABI)}
	}
	return nil
}

// Version returns the release of the library.
func Version() string { return C.GoString(C.mtaw_version()) }

// InstructionSet returns the instruction set that the library uses on this CPU, such as "avx512".
func InstructionSet() string { return C.GoString(C.mtaw_instruction_set()) }

// ID is an external id, a text or a number. The zero value is the empty text. A zero byte is a part of a text.
type ID struct {
	text     string
	number   int64
	isNumber bool
}

// Text returns the id of a text.
func Text(text string) ID { return ID{text: text} }

// Number returns the id of a number.
func Number(number int64) ID { return ID{number: number, isNumber: true} }

// Texts returns the ids of texts.
func Texts(texts ...string) []ID {
	ids := make([]ID, len(texts))
	for i, text := range texts {
		ids[i] = Text(text)
	}
	return ids
}

// Numbers returns the ids of numbers.
func Numbers(numbers ...int64) []ID {
	ids := make([]ID, len(numbers))
	for i, number := range numbers {
		ids[i] = Number(number)
	}
	return ids
}

// String returns the text, or the number in decimal digits.
func (id ID) String() string {
	if id.isNumber {
		return strconv.FormatInt(id.number, 10)
	}
	return id.text
}

// Int64 returns the number, and whether the id is one.
func (id ID) Int64() (int64, bool) { return id.number, id.isNumber }

// Options of a ranking. All conditions hold together. The zero value: 20 items, all of the catalog, now.
type Options struct {
	K           int       // how many items; 0 means 20
	At          time.Time // the moment of the request, for bundles with times; the zero time means now
	ExcludeSeen bool      // leave out the session's own items
	Exclude     []ID      // ids that are never recommended
	Allow       []ID      // the only ids that may be recommended; nil allows all, an empty list none
	Filter      *Filter   // a prepared filter
	Rules       *Rules    // checked rules
	Placement   string    // where the list will stand, such as "cart": its saved rules, by At and SessionID; not together with Rules
	SessionID   string    // decides between rule sets of a placement that share the sessions
	Context     map[string]string
	Types       []string // of each click of the call or of the session so far, such as "cart"; "" where it is not known
	Reasons     bool     // say why each item was recommended
}

// Reason says why an item was recommended.
type Reason struct {
	Kind  ReasonKind
	Rule  RuleEffect
	Items []ID // of the session, the closest first, at most three
}

// ReasonKind is what speaks for an item.
type ReasonKind int

// The item is in the session; past sessions contain it together with items of the session; or neither.
const (
	InSession ReasonKind = C.MTAW_IN_SESSION
	Together  ReasonKind = C.MTAW_TOGETHER
	Encoder   ReasonKind = C.MTAW_ENCODER
)

// RuleEffect is what rules did to an item.
type RuleEffect int

// Nothing; its score became higher or lower; or it was put at its position.
const (
	Unchanged RuleEffect = C.MTAW_UNCHANGED
	Boosted   RuleEffect = C.MTAW_BOOSTED
	Buried    RuleEffect = C.MTAW_BURIED
	Pinned    RuleEffect = C.MTAW_PINNED
)

// Answer is a ranking, best first.
type Answer struct {
	Items    []ID
	Scores   []float32
	Unknown  []int    // positions of clicks that the catalog does not know
	Fallback bool     // no click was known, so this is the popularity ranking
	Short    bool     // with rules: no more items meet the conditions
	Reasons  []Reason // of each item, if they were asked for and this is no popularity ranking
	RuleSet  string   // the name of the placement's rule set that it follows
}

// Info says what a bundle is.
type Info struct {
	Items, CatalogSize  int
	TextIDs             bool
	Dimensions          int
	HasMemory, HasTimes bool
	Format              int
	Version             string
	ClickTypes          []string // that Options.Types may name
	ContextColumns      []string // that Options.Context may name
}

// OpenOptions of Open.
type OpenOptions struct {
	NoVerify bool // do not check hashes and values
	Map      bool // map the files, for folders that nobody writes into
}

// handle is a C object that calls may use until it is closed.
type handle[T comparable] struct {
	mutex sync.RWMutex
	of    T
	free  func(T)
}

// open makes the object, by work with working memory.
func (h *handle[T]) open(free func(T), work func(*arena, *T) C.mtaw_status) error {
	a := arenas.Get().(*arena)
	defer func() { a.reset(); arenas.Put(a) }()
	var found T
	if work(a, &found) != C.MTAW_OK {
		return errorOf(a.failure())
	}
	h.of, h.free = found, free
	return nil
}

func (h *handle[T]) close() {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	var none T
	if h.of != none {
		h.free(h.of)
		h.of = none
	}
}

// with calls work with the object, which is not closed meanwhile.
func (h *handle[T]) with(work func(T) error) error {
	h.mutex.RLock()
	defer h.mutex.RUnlock()
	var none T
	if h.of == none {
		return ErrClosed
	}
	return work(h.of)
}

// Recommender is an open bundle.
type Recommender struct{ handle[*C.mtaw_recommender] }

// Open opens a bundle folder; options may be nil.
func Open(folder string, options *OpenOptions) (*Recommender, error) {
	if err := errors.Join(sameABI(), refuseZeros("folder", folder)); err != nil {
		return nil, err
	}
	made := &Recommender{}
	err := made.open(func(of *C.mtaw_recommender) { C.mtaw_close(of) }, func(a *arena, found **C.mtaw_recommender) C.mtaw_status {
		given := (*C.mtaw_open_options)(a.take(1, unsafe.Sizeof(C.mtaw_open_options{})))
		given.struct_size = C.size_t(unsafe.Sizeof(*given))
		if options != nil && options.NoVerify {
			given.flags |= C.MTAW_NO_VERIFY
		}
		if options != nil && options.Map {
			given.flags |= C.MTAW_MAP
		}
		return C.mtaw_open(a.text(folder), given, found, a.failure())
	})
	if err != nil {
		return nil, err
	}
	runtime.SetFinalizer(made, (*Recommender).Close)
	return made, nil
}

// Close frees the bundle. Sessions that it made stay usable.
func (r *Recommender) Close() { r.close() }

// Info returns what the bundle is.
func (r *Recommender) Info() (Info, error) {
	var found C.mtaw_info
	var types, columns []string
	found.struct_size = C.size_t(unsafe.Sizeof(found))
	err := r.with(func(of *C.mtaw_recommender) error {
		var failure C.mtaw_error
		if C.mtaw_describe(of, &found, &failure) != C.MTAW_OK {
			return errorOf(&failure)
		}
		for index := C.size_t(0); C.mtaw_click_type(of, index) != nil; index++ {
			types = append(types, C.GoString(C.mtaw_click_type(of, index)))
		}
		for index := C.size_t(0); C.mtaw_context_column(of, index) != nil; index++ {
			columns = append(columns, C.GoString(C.mtaw_context_column(of, index)))
		}
		return nil
	})
	return Info{
		Items: int(found.n_items), CatalogSize: int(found.catalog_size), TextIDs: found.id_kind == C.MTAW_TEXT_IDS,
		Dimensions: int(found.dimensions), HasMemory: found.has_memory != 0, HasTimes: found.has_times != 0,
		Format: int(found.bundle_format), Version: C.GoString(&found.version[0]), ClickTypes: types, ContextColumns: columns,
	}, err
}

// Recommend returns the best next items after the clicks, oldest first. options may be nil.
func (r *Recommender) Recommend(clicks []ID, options *Options) (*Answer, error) {
	answers, err := r.ranked(func(of *C.mtaw_recommender, a *arena, found []*C.mtaw_answer) C.mtaw_status {
		ids := a.ids(clicks)
		return C.mtaw_recommend(of, ids, C.size_t(len(clicks)), a.options(options), &found[0], a.failure())
	}, options, 1)
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

// RecommendBatch returns what Recommend does, for many sessions.
func (r *Recommender) RecommendBatch(sessions [][]ID, options *Options) ([]*Answer, error) {
	return r.ranked(func(of *C.mtaw_recommender, a *arena, found []*C.mtaw_answer) C.mtaw_status {
		if len(sessions) == 0 {
			return C.MTAW_OK
		}
		lists := unsafe.Slice((*C.mtaw_clicks)(a.take(len(sessions), unsafe.Sizeof(C.mtaw_clicks{}))), len(sessions))
		for i, session := range sessions {
			lists[i].ids, lists[i].n = a.ids(session), C.size_t(len(session))
		}
		return C.mtaw_recommend_batch(of, &lists[0], C.size_t(len(sessions)), a.options(options), &found[0], a.failure())
	}, options, len(sessions))
}

// By says what items are similar by.
type By int

// By the item vectors, or by the past sessions with both.
const (
	ByVectors  By = C.MTAW_BY_VECTORS
	BySessions By = C.MTAW_BY_SESSIONS
)

// Similar returns the items most similar to one, with their cosines.
func (r *Recommender) Similar(item ID, by By, options *Options) (*Answer, error) {
	answers, err := r.ranked(func(of *C.mtaw_recommender, a *arena, found []*C.mtaw_answer) C.mtaw_status {
		return C.mtaw_similar(of, *a.ids([]ID{item}), C.int32_t(by), a.options(options), &found[0], a.failure())
	}, options, 1)
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

func (r *Recommender) ranked(work func(*C.mtaw_recommender, *arena, []*C.mtaw_answer) C.mtaw_status, options *Options, count int) (answers []*Answer, err error) {
	err = r.with(func(of *C.mtaw_recommender) error {
		return ranked(options, count, &answers, func(a *arena, found []*C.mtaw_answer) C.mtaw_status { return work(of, a, found) })
	})
	return answers, err
}

// ranked calls work with working memory and room for answers, and converts the answers.
func ranked(options *Options, count int, answers *[]*Answer, work func(*arena, []*C.mtaw_answer) C.mtaw_status) error {
	if options != nil {
		if err := refuseZerosOf("", options.Context); err != nil {
			return err
		}
		if err := refuseZeros("a type", options.Types...); err != nil {
			return err
		}
		if err := refuseZeros("placement or session id", options.Placement, options.SessionID); err != nil {
			return err
		}
	}
	a := arenas.Get().(*arena)
	defer func() { a.reset(); arenas.Put(a) }()
	return options.held(func() error {
		found := unsafe.Slice((**C.mtaw_answer)(a.take(count+1, unsafe.Sizeof(uintptr(0)))), count+1)
		if work(a, found) != C.MTAW_OK {
			return errorOf(a.failure())
		}
		made := make([]*Answer, count)
		for i := range made {
			made[i] = answerOf(found[i])
		}
		*answers = made
		return nil
	})
}

// held calls work while the filter and the rules of the options cannot be closed.
func (o *Options) held(work func() error) error {
	if o != nil && o.Filter != nil {
		return o.Filter.with(func(*C.mtaw_filter) error { return o.heldRules(work) })
	}
	return o.heldRules(work)
}

func (o *Options) heldRules(work func() error) error {
	if o != nil && o.Rules != nil {
		return o.Rules.with(func(*C.mtaw_rules) error { return work() })
	}
	return work()
}

func answerOf(found *C.mtaw_answer) *Answer {
	defer C.mtaw_answer_free(found)
	n := int(found.n)
	answer := &Answer{Items: idsOf(found.items, n), Scores: make([]float32, n), Fallback: found.fallback != 0, Short: found.completeness != C.MTAW_FULL}
	for i, score := range unsafe.Slice(found.scores, n) {
		answer.Scores[i] = float32(score)
	}
	if found.reasons != nil {
		for _, reason := range unsafe.Slice(found.reasons, n) {
			answer.Reasons = append(answer.Reasons, Reason{ReasonKind(reason.kind), RuleEffect(reason.rule), idsOf(reason.items, int(reason.n))})
		}
	}
	if found.rule_set != nil {
		answer.RuleSet = C.GoString(found.rule_set)
	}
	for _, position := range unsafe.Slice(found.unknown, int(found.n_unknown)) {
		answer.Unknown = append(answer.Unknown, int(position))
	}
	return answer
}

func idsOf(found *C.mtaw_id, n int) []ID {
	ids := make([]ID, n)
	for i, id := range unsafe.Slice(found, n) {
		if id.text == nil {
			ids[i] = Number(int64(id.value))
		} else {
			ids[i] = Text(C.GoStringN(id.text, C.int(id.value)))
		}
	}
	return ids
}

func errorOf(failure *C.mtaw_error) error {
	return &Error{Status(failure.status), C.GoString(&failure.message[0])}
}

// Session grows click by click; a ranking costs one step, not the whole session.
type Session struct{ handle[*C.mtaw_session] }

// NewSession returns a session without clicks.
func (r *Recommender) NewSession() (*Session, error) {
	made := &Session{}
	err := r.with(func(of *C.mtaw_recommender) error {
		return made.open(func(of *C.mtaw_session) { C.mtaw_session_close(of) }, func(a *arena, found **C.mtaw_session) C.mtaw_status {
			return C.mtaw_session_open(of, found, a.failure())
		})
	})
	if err != nil {
		return nil, err
	}
	runtime.SetFinalizer(made, (*Session).Close)
	return made, nil
}

// Click appends clicks, oldest first.
func (s *Session) Click(clicks ...ID) error {
	return s.with(func(of *C.mtaw_session) error {
		a := arenas.Get().(*arena)
		defer func() { a.reset(); arenas.Put(a) }()
		if C.mtaw_session_click(of, a.ids(clicks), C.size_t(len(clicks)), a.failure()) != C.MTAW_OK {
			return errorOf(a.failure())
		}
		return nil
	})
}

// Recommend returns the best next items now.
func (s *Session) Recommend(options *Options) (*Answer, error) {
	var answers []*Answer
	err := s.with(func(of *C.mtaw_session) error {
		return ranked(options, 1, &answers, func(a *arena, found []*C.mtaw_answer) C.mtaw_status {
			return C.mtaw_session_recommend(of, a.options(options), &found[0], a.failure())
		})
	})
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

// Close frees the session.
func (s *Session) Close() { s.close() }

// Filter is a long list of ids, prepared for many calls.
type Filter struct{ handle[*C.mtaw_filter] }

// NewFilter allows all items but exclude, or only allow without exclude if allow is not nil.
func (r *Recommender) NewFilter(exclude, allow []ID) (*Filter, error) {
	made := &Filter{}
	err := r.with(func(of *C.mtaw_recommender) error {
		return made.open(func(of *C.mtaw_filter) { C.mtaw_filter_close(of) }, func(a *arena, found **C.mtaw_filter) C.mtaw_status {
			var allowed *C.mtaw_id
			if allow != nil {
				allowed = a.ids(allow)
			}
			return C.mtaw_filter_open(of, a.ids(exclude), C.size_t(len(exclude)), allowed, C.size_t(len(allow)), found, a.failure())
		})
	})
	if err != nil {
		return nil, err
	}
	runtime.SetFinalizer(made, (*Filter).Close)
	return made, nil
}

// Close frees the filter.
func (f *Filter) Close() { f.close() }

// Rules are filters, boosts, limits and pins by the columns of the item table.
type Rules struct{ handle[*C.mtaw_rules] }

// NewRules checks rules: a value whose JSON is as docs/rules.md says, such as map[string]any{"filter": "price < 80"} or
// a json.RawMessage.
func (r *Recommender) NewRules(rules any) (*Rules, error) {
	if _, isBytes := rules.([]byte); isBytes {
		return nil, &Error{StatusUsage, "rules: JSON in bytes is a json.RawMessage"}
	}
	text, err := json.Marshal(rules)
	if err != nil {
		return nil, &Error{StatusUsage, "rules: " + err.Error()}
	}
	made := &Rules{}
	err = r.with(func(of *C.mtaw_recommender) error {
		return made.open(func(of *C.mtaw_rules) { C.mtaw_rules_close(of) }, func(a *arena, found **C.mtaw_rules) C.mtaw_status {
			return C.mtaw_rules_open(of, a.text(string(text)), C.size_t(len(text)), found, a.failure())
		})
	})
	if err != nil {
		return nil, err
	}
	runtime.SetFinalizer(made, (*Rules).Close)
	return made, nil
}

// Close frees the rules.
func (r *Rules) Close() { r.close() }

// Event is a click for the learning log.
type Event struct {
	Session string
	Item    ID
	Time    time.Time // the zero time means now
	Type    string    // such as "view"; may be empty
	ID      string    // events of a session with the same id count once; may be empty
	Context map[string]string
}

// EventLog is the log in a learning folder; processes of the Python package that share the folder learn from it.
type EventLog struct{ handle[*C.mtaw_log] }

// OpenLog opens the log in a folder. noSync: append returns before the disk has the events.
func OpenLog(folder string, noSync bool) (*EventLog, error) {
	if err := errors.Join(sameABI(), refuseZeros("folder", folder)); err != nil {
		return nil, err
	}
	var flags C.uint32_t
	if noSync {
		flags = C.MTAW_NO_SYNC
	}
	made := &EventLog{}
	err := made.open(func(of *C.mtaw_log) { C.mtaw_log_close(of) }, func(a *arena, found **C.mtaw_log) C.mtaw_status {
		return C.mtaw_log_open(a.text(folder), flags, found, a.failure())
	})
	if err != nil {
		return nil, err
	}
	runtime.SetFinalizer(made, (*EventLog).Close)
	return made, nil
}

// Append stores events and returns the log position after the last one. They are acknowledged together: after an error
// with StatusLog some may be stored, so send them again with the same ids.
func (l *EventLog) Append(events ...Event) (position string, err error) {
	for i, event := range events {
		where := fmt.Sprintf("event %d: ", i)
		if err := refuseZeros(where+"session, type or id", event.Session, event.Type, event.ID); err != nil {
			return "", err
		}
		if err := refuseZerosOf(where, event.Context); err != nil {
			return "", err
		}
	}
	err = l.with(func(of *C.mtaw_log) error {
		a := arenas.Get().(*arena)
		defer func() { a.reset(); arenas.Put(a) }()
		list := unsafe.Slice((*C.mtaw_event)(a.take(len(events)+1, unsafe.Sizeof(C.mtaw_event{}))), len(events)+1)
		for i, event := range events {
			list[i].session, list[i].item, list[i].time = a.text(event.Session), *a.ids([]ID{event.Item}), moment(event.Time)
			if event.Type != "" {
				list[i]._type = a.text(event.Type)
			}
			if event.ID != "" {
				list[i].id = a.text(event.ID)
			}
			list[i].context, list[i].n_context = a.context(event.Context)
		}
		var at [C.MTAW_POSITION_SIZE]C.char
		if C.mtaw_log_append(of, &list[0], C.size_t(len(events)), &at[0], a.failure()) != C.MTAW_OK {
			return errorOf(a.failure())
		}
		position = C.GoString(&at[0])
		return nil
	})
	return position, err
}

// Forget stores the request to forget what was learned from a session.
func (l *EventLog) Forget(session string) (position string, err error) {
	if err := refuseZeros("session", session); err != nil {
		return "", err
	}
	name := C.CString(session)
	defer C.free(unsafe.Pointer(name))
	err = l.with(func(of *C.mtaw_log) error {
		var failure C.mtaw_error
		var at [C.MTAW_POSITION_SIZE]C.char
		if C.mtaw_log_forget(of, name, &at[0], &failure) != C.MTAW_OK {
			return errorOf(&failure)
		}
		position = C.GoString(&at[0])
		return nil
	})
	return position, err
}

// Close closes the log.
func (l *EventLog) Close() { l.close() }

// refuseZeros returns an error if C would read only a part of a text.
func refuseZeros(what string, texts ...string) error {
	for _, text := range texts {
		if strings.IndexByte(text, 0) >= 0 {
			return &Error{StatusUsage, what + " has a zero byte; leave it out"}
		}
	}
	return nil
}

func refuseZerosOf(where string, context map[string]string) error {
	for name, value := range context {
		if err := refuseZeros(where+"context", name, value); err != nil {
			return err
		}
	}
	return nil
}

func moment(at time.Time) C.int64_t {
	if at.IsZero() {
		return C.MTAW_NOW
	}
	return C.int64_t(at.UnixMilli())
}
