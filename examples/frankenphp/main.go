// Command frankenphp serves worker.php with FrankenPHP, the way its Caddy module does: a few threads that run the worker
// script in a loop. SIGTERM and SIGINT end it after the requests that are under way.
package main

import (
	"context"
	"flag"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dunglas/frankenphp"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address")
	script := flag.String("worker", "worker.php", "the worker script")
	threads := flag.Int("threads", 8, "PHP threads; 1 where PHP was built without ZTS")
	flag.Parse()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := serve(*listen, *script, *threads, logger); err != nil {
		logger.Error(err.Error())
		os.Exit(1)
	}
}

func serve(listen, script string, threads int, logger *slog.Logger) error {
	script, err := filepath.Abs(script)
	if err != nil {
		return err
	}
	if !frankenphp.Config().ZTS {
		threads = 1
	}
	err = frankenphp.Init(
		// It warns of every client that hangs up.
		frankenphp.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))),
		frankenphp.WithNumThreads(threads+1), // FrankenPHP keeps one for scripts that are no workers
		frankenphp.WithWorkers("gomlx", script, threads),
		frankenphp.WithPhpIni(map[string]string{
			"ffi.enable":         "true", // or opcache.preload=…/bindings/php/preload.php
			"max_execution_time": "0",
			"display_errors":     "0",
			"log_errors":         "1",
		}),
	)
	if err != nil {
		return err
	}
	defer frankenphp.Shutdown()

	server := &http.Server{
		Addr:              listen,
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			request, err := frankenphp.NewRequestWithContext(r,
				frankenphp.WithRequestDocumentRoot(filepath.Dir(script), false),
				frankenphp.WithWorkerName("gomlx"))
			if err == nil {
				err = frankenphp.ServeHTTP(w, request)
			}
			if err != nil {
				logger.Error("request", "url", r.URL.Path, "error", err)
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}),
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	logger.Info("serving", "address", "http://"+listen, "php", frankenphp.Version().Version,
		"zts", frankenphp.Config().ZTS, "threads", threads)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	within, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return server.Shutdown(within)
}
