// Command turns takes turns with other clients, for bench/clients, whose turns.c says how.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"mtaw"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(folder, at, path string) error {
	shop, err := mtaw.Open(folder, nil)
	if err != nil {
		return err
	}
	defer shop.Close()
	info, err := shop.Info()
	if err != nil {
		return err
	}
	sessions, err := sessionsOf(path, info.TextIDs)
	if err != nil {
		return err
	}
	milliseconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return err
	}
	options := &mtaw.Options{At: time.UnixMilli(milliseconds)}
	fmt.Println("ready")
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		var begin, count int
		if _, err := fmt.Sscanf(input.Text(), "time %d %d", &begin, &count); err != nil {
			if _, err := fmt.Sscanf(input.Text(), "answer %d", &begin); err != nil {
				return err
			}
			answer, err := shop.Recommend(sessions[begin%len(sessions)], options)
			if err != nil {
				return err
			}
			for _, item := range answer.Items {
				fmt.Print(item, " ")
			}
		}
		for ; count > 0; begin, count = begin+1, count-1 {
			start := time.Now()
			if _, err := shop.Recommend(sessions[begin%len(sessions)], options); err != nil {
				return err
			}
			fmt.Print(time.Since(start).Nanoseconds(), " ")
		}
		fmt.Println()
	}
	return nil
}

func sessionsOf(path string, text bool) ([][]mtaw.ID, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var sessions [][]mtaw.ID
	for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		var session []mtaw.ID
		for _, word := range strings.Fields(line) {
			number, err := strconv.ParseInt(word, 10, 64)
			if text {
				session = append(session, mtaw.Text(word))
			} else if err != nil {
				return nil, err
			} else {
				session = append(session, mtaw.Number(number))
			}
		}
		sessions = append(sessions, session)
	}
	return sessions, nil
}
