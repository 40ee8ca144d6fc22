// Command rank answers sessions of a bundle, for the comparison with the Python package: each line of the input is a
// JSON list of ids, each line of the output a list of items and a list of their scores' bits.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"mtaw"
)

const batch = 512

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(folder, at string) error {
	shop, err := mtaw.Open(folder, nil)
	if err != nil {
		return err
	}
	defer shop.Close()
	milliseconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return err
	}
	info, err := shop.Info()
	if err != nil {
		return err
	}
	// Types of clicks in turn, the last one unknown.
	types := append(info.ClickTypes, "")
	typed := func(sessions ...[]mtaw.ID) *mtaw.Options {
		options := &mtaw.Options{At: time.UnixMilli(milliseconds), Types: []string{}}
		for _, session := range sessions {
			for position := range session {
				options.Types = append(options.Types, types[position%len(types)])
			}
		}
		return options
	}
	input, output := bufio.NewScanner(os.Stdin), bufio.NewWriter(os.Stdout)
	input.Buffer(nil, 1<<24)
	defer output.Flush()
	var sessions [][]mtaw.ID
	for input.Scan() {
		session, err := idsOf(input.Bytes())
		if err != nil {
			return err
		}
		sessions = append(sessions, session)
	}
	for begin := 0; begin < len(sessions); begin += batch {
		// In turn one by one, in batches and as growing sessions: all give the same.
		some := sessions[begin:min(begin+batch, len(sessions))]
		answers, err := answersOf(shop, some, typed, begin/batch%3)
		if err != nil {
			return err
		}
		for _, answer := range answers {
			if err := write(output, answer); err != nil {
				return err
			}
		}
	}
	return input.Err()
}

type typing func(sessions ...[]mtaw.ID) *mtaw.Options

func answersOf(shop *mtaw.Recommender, sessions [][]mtaw.ID, typed typing, way int) ([]*mtaw.Answer, error) {
	if way == 0 {
		return shop.RecommendBatch(sessions, typed(sessions...))
	}
	answers := make([]*mtaw.Answer, len(sessions))
	for i, session := range sessions {
		var err error
		if way == 1 {
			answers[i], err = shop.Recommend(session, typed(session))
		} else {
			answers[i], err = growing(shop, session, typed)
		}
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func growing(shop *mtaw.Recommender, session []mtaw.ID, typed typing) (*mtaw.Answer, error) {
	visit, err := shop.NewSession()
	if err != nil {
		return nil, err
	}
	defer visit.Close()
	for i := range session {
		if err := visit.Click(session[i]); err != nil {
			return nil, err
		}
		if i == len(session)/2 {
			if _, err := visit.Recommend(typed(session[:i+1])); err != nil {
				return nil, err
			}
		}
	}
	return visit.Recommend(typed(session))
}

func idsOf(line []byte) ([]mtaw.ID, error) {
	var values []any
	if err := json.Unmarshal(line, &values); err != nil {
		return nil, err
	}
	ids := make([]mtaw.ID, len(values))
	for i, value := range values {
		switch value := value.(type) {
		case string:
			ids[i] = mtaw.Text(value)
		case float64:
			ids[i] = mtaw.Number(int64(value))
		}
	}
	return ids, nil
}

func write(output *bufio.Writer, answer *mtaw.Answer) error {
	items, bits := make([]any, len(answer.Items)), make([]uint32, len(answer.Items))
	for i, item := range answer.Items {
		items[i] = item.String()
		if number, is := item.Int64(); is {
			items[i] = number
		}
		bits[i] = math.Float32bits(answer.Scores[i])
	}
	text, err := json.Marshal([]any{items, bits})
	if err != nil {
		return err
	}
	output.Write(text)
	return output.WriteByte('\n')
}
