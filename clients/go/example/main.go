// Command example ranks the next items of a session: go run ./example BUNDLE ITEM..
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"

	"mtaw"
)

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: example BUNDLE ITEM..")
	}
	shop, err := mtaw.Open(os.Args[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	defer shop.Close()
	info, err := shop.Info()
	if err != nil {
		log.Fatal(err)
	}
	visit, err := shop.NewSession()
	if err != nil {
		log.Fatal(err)
	}
	defer visit.Close()
	for _, item := range os.Args[2:] {
		id := mtaw.Text(item)
		if number, err := strconv.ParseInt(item, 10, 64); err == nil && !info.TextIDs {
			id = mtaw.Number(number)
		}
		if err := visit.Click(id); err != nil {
			log.Fatal(err)
		}
	}
	answer, err := visit.Recommend(&mtaw.Options{K: 5, ExcludeSeen: true})
	if err != nil {
		log.Fatal(err)
	}
	for index, item := range answer.Items {
		fmt.Printf("%d  %-16v %.4f\n", index+1, item, answer.Scores[index])
	}
}
