package mtaw

/*
#include <mtaw.h>
#include <stdlib.h>
*/
import "C"

import (
	"runtime"
	"sync"
	"unsafe"
)

// arena is memory of C for the arguments of one call: C must not keep pointers to Go's memory in its structures. It is
// kept for later calls.
type arena struct {
	blocks  []block
	current int
	used    uintptr
	error   *C.mtaw_error
}

type block struct {
	begin unsafe.Pointer
	size  uintptr
}

const blockSize = 1 << 14

var arenas = sync.Pool{New: func() any {
	a := &arena{error: (*C.mtaw_error)(C.calloc(1, C.size_t(unsafe.Sizeof(C.mtaw_error{}))))}
	runtime.SetFinalizer(a, (*arena).free)
	return a
}}

func (a *arena) free() {
	for _, one := range a.blocks {
		C.free(one.begin)
	}
	C.free(unsafe.Pointer(a.error))
}

func (a *arena) reset() { a.current, a.used = 0, 0 }

func (a *arena) failure() *C.mtaw_error { return a.error }

// take returns zeroed memory for count values of a size, aligned for all of them.
func (a *arena) take(count int, size uintptr) unsafe.Pointer {
	wanted := (uintptr(count)*size + 15) &^ 15
	for a.current < len(a.blocks) && a.used+wanted > a.blocks[a.current].size {
		a.current, a.used = a.current+1, 0
	}
	if a.current == len(a.blocks) {
		room := max(wanted, blockSize)
		begin := C.malloc(C.size_t(room))
		if begin == nil {
			panic("mtaw: there is no memory left")
		}
		a.blocks = append(a.blocks, block{begin, room})
	}
	found := unsafe.Add(a.blocks[a.current].begin, a.used)
	a.used += wanted
	clear(unsafe.Slice((*byte)(found), wanted))
	return found
}

// text returns a copy that ends with a zero byte.
func (a *arena) text(text string) *C.char {
	found := a.take(len(text)+1, 1)
	copy(unsafe.Slice((*byte)(found), len(text)), text)
	return (*C.char)(found)
}

// ids returns a copy; an empty list has an address too.
func (a *arena) ids(ids []ID) *C.mtaw_id {
	size := 0
	for _, id := range ids {
		size += len(id.text)
	}
	list := unsafe.Slice((*C.mtaw_id)(a.take(len(ids)+1, unsafe.Sizeof(C.mtaw_id{}))), len(ids)+1)
	begin := a.take(size+1, 1)
	offset := uintptr(0)
	for i, id := range ids {
		if id.isNumber {
			list[i].value = C.int64_t(id.number)
			continue
		}
		to := unsafe.Add(begin, offset)
		copy(unsafe.Slice((*byte)(to), len(id.text)), id.text)
		list[i].text, list[i].value = (*C.char)(to), C.int64_t(len(id.text))
		offset += uintptr(len(id.text))
	}
	return &list[0]
}

func (a *arena) context(given map[string]string) (*C.mtaw_context, C.size_t) {
	list := unsafe.Slice((*C.mtaw_context)(a.take(len(given)+1, unsafe.Sizeof(C.mtaw_context{}))), len(given)+1)
	index := 0
	for name, value := range given {
		list[index].name, list[index].value = a.text(name), a.text(value)
		index++
	}
	return &list[0], C.size_t(len(given))
}

func (a *arena) types(given []string) **C.char {
	list := unsafe.Slice((**C.char)(a.take(len(given)+1, unsafe.Sizeof(uintptr(0)))), len(given)+1)
	for i, one := range given {
		if one != "" {
			list[i] = a.text(one)
		}
	}
	return &list[0]
}

func (a *arena) options(given *Options) *C.mtaw_options {
	options := (*C.mtaw_options)(a.take(1, unsafe.Sizeof(C.mtaw_options{})))
	C.mtaw_options_init_sized(options, C.size_t(unsafe.Sizeof(*options)))
	if given == nil {
		return options
	}
	if given.K != 0 {
		options.k = C.size_t(max(given.K, 0)) // below 0 is refused as 0
	}
	options.at = moment(given.At)
	if given.ExcludeSeen {
		options.exclude_seen = 1
	}
	options.exclude, options.n_exclude = a.ids(given.Exclude), C.size_t(len(given.Exclude))
	if given.Allow != nil {
		options.allow, options.n_allow = a.ids(given.Allow), C.size_t(len(given.Allow))
	}
	if given.Filter != nil {
		options.filter = given.Filter.of
	}
	if given.Rules != nil {
		options.rules = given.Rules.of
	}
	if given.Placement != "" {
		options.placement = a.text(given.Placement)
	}
	if given.SessionID != "" {
		options.session_id = a.text(given.SessionID)
	}
	options.context, options.n_context = a.context(given.Context)
	if given.Types != nil {
		options.types, options.n_types = a.types(given.Types), C.size_t(len(given.Types))
	}
	if given.Reasons {
		options.reasons = 1
	}
	return options
}
