// wails-chat is a native window around a model of one's own: pick one that was found, ask, watch the answer come.
//
//	go build -tags desktop,production,webkit2_41 && ./wails-chat
package main

import (
	"embed"
	"flag"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/wailsapp/wails/v2"
	"github.com/wailsapp/wails/v2/pkg/options"
	"github.com/wailsapp/wails/v2/pkg/options/assetserver"
)

//go:embed frontend
var frontend embed.FS

func main() {
	folder := flag.String("models", defaultFolder(), "look for models below this `folder`")
	keep := flag.String("transcript", "", "keep what the window shows in this `file`")
	temperature := flag.Float64("temperature", 0.7, "0 always takes the most probable token")
	flag.Parse()

	pages, err := fs.Sub(frontend, "frontend")
	if err != nil {
		log.Fatal(err)
	}
	chat := &Chat{folder: *folder, transcript: *keep, temperature: float32(*temperature)}
	err = wails.Run(&options.App{
		Title:     "gomlx chat",
		Width:     980,
		Height:    680,
		MinWidth:  640,
		MinHeight: 420,
		// Shown until the page is there.
		BackgroundColour: options.NewRGB(250, 249, 246),
		AssetServer:      &assetserver.Options{Assets: pages},
		OnStartup:        chat.open,
		OnShutdown:       chat.close,
		Bind:             []any{chat},
	})
	if err != nil {
		log.Fatal(err)
	}
}

// defaultFolder is where models usually are: beside the program, or in Hugging Face's cache.
func defaultFolder() string {
	if _, err := os.Stat("models"); err == nil {
		return "models"
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, ".cache", "huggingface", "hub")
}
